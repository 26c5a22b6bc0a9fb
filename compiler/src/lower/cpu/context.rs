//! What a kernel sees: the planned entry, this step's extents, and memory.
//!
//! The plan says that living buffers do not overlap, so a kernel may hold its inputs and its outputs at once; that is what
//! the `unsafe` here rests on.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::super::{LowerError, Shared as SharedProgram, StepInputs};
use super::memory::Memory;
use super::parallel::{CHUNK, pieces, scratch};
use super::place::{Shared, Source};
use super::room::room;
use super::scratch::{Room, with_workspace};
use super::view::{View, dense_strides};
use crate::ir::graph::{CountId, Extent, Outer, Segments, Tables, Type};
use crate::plan::arena::{self, Span};
use crate::plan::shape::{Shape, outer_block};
use crate::plan::{Home, Plan, Step, Stored};

/// This step's data.
#[derive(Default)]
struct Now {
    segments: Segments,
    shapes: Vec<Arc<Shape>>,
    offsets: Vec<usize>,
    /// Where each step's kernel finds memory on the side, and how much.
    workspaces: Vec<(usize, Room)>,
    inputs: Vec<(usize, usize)>,
    scalars: Vec<f64>,
    /// Room of the arena that the step needs, in elements.
    room: usize,
}

/// An entry, its memory and its step.
pub struct Context {
    /// The program.
    pub program: SharedProgram,
    /// The planned entry.
    pub plan: Plan,
    memory: Rc<Memory>,
    threads: usize,
    now: RefCell<Now>,
    /// Exact content of values without dims, where a kernel knows it better than f32 says.
    numbers: Vec<Cell<Option<f64>>>,
    /// Values in bf16 that a kernel sees in f32 while it runs: where they are for the time being.
    wide: RefCell<HashMap<usize, usize>>,
}

impl Context {
    /// An entry over a machine's memory.
    pub fn new(program: SharedProgram, plan: Plan, memory: Rc<Memory>, threads: usize) -> Context {
        let numbers = plan.values.iter().map(|_| Cell::new(None)).collect();
        Context { program, plan, memory, threads, now: RefCell::default(), numbers, wide: RefCell::default() }
    }

    /// Sets the extents, offsets and inputs of a step, and makes room.
    pub fn begin(&self, step: &StepInputs) -> Result<(), LowerError> {
        let words = self.lay_out(step.segments)?;
        let now = &mut *self.now.borrow_mut();
        now.inputs = step.inputs.iter().map(|i| (i.as_ptr() as usize, i.len())).collect();
        now.scalars = step.scalars.to_vec();
        self.numbers.iter().for_each(|n| n.set(None));
        self.memory.grow(words)
    }

    /// Sets the extents and offsets of a step; the words of arena that it needs.
    pub fn lay_out(&self, segments: &Segments) -> Result<usize, LowerError> {
        {
            let now = &mut *self.now.borrow_mut();
            if !now.shapes.is_empty() && same_counts(&now.segments, segments) {
                now.segments.clone_from(segments);
                return Ok(now.room);
            }
            let tables = &self.program.tables;
            let shape = |(outer, extents): &(Outer, Vec<Extent>)| Shape::new(tables, segments, *outer, extents);
            now.shapes.clear();
            refuse_empty(&self.program.tables, &self.plan, segments)?;
            now.shapes = self.plan.shapes.iter().map(|s| Arc::new(shape(s))).collect();
            now.segments.clone_from(segments);
            // Views are asked for before buffers have their places.
            (now.offsets, now.room) = (vec![0; self.plan.buffers.len()], usize::MAX);
        }
        let rooms: Vec<Room> = self.plan.steps.iter().map(|step| room(self, step)).collect();
        let spans = self.spans(&rooms);
        let now = &mut *self.now.borrow_mut();
        (now.offsets, now.room) = arena::offsets(&spans);
        let mut places = now.offsets.split_off(self.plan.buffers.len()).into_iter();
        let mut place = |room: &Room| if room.words(self.threads) > 0 { places.next().unwrap_or(0) } else { 0 };
        now.workspaces = rooms.iter().map(|room| (place(room), *room)).collect();
        Ok(now.room)
    }

    /// What lives through which steps: the buffers, then what kernels take on the side.
    fn spans(&self, rooms: &[Room]) -> Vec<Span> {
        let mut spans = self.plan.spans(|shape| self.now.borrow().shapes[shape].total());
        let words = rooms.iter().enumerate().map(|(step, room)| (step, room.words(self.threads)));
        spans.extend(words.filter(|w| w.1 > 0).map(|(step, words)| Span { first: step, last: step, words }));
        spans
    }

    /// What lives through which steps, as the step was laid out.
    pub fn living(&self) -> Vec<Span> {
        let rooms: Vec<Room> = self.now.borrow().workspaces.iter().map(|w| w.1).collect();
        self.spans(&rooms)
    }

    /// Runs the kernel of step `index`, which finds its workspace.
    pub fn with_workspace<R>(&self, index: usize, body: impl FnOnce() -> R) -> R {
        let (offset, room) = self.now.borrow().workspaces[index];
        // SAFETY: `begin` made room for it, and no other buffer of the step lies there.
        unsafe { with_workspace(self.memory.arena().add(offset), room, self.threads, self.memory.spilled(), body) }
    }

    /// Clips of this step.
    pub fn clips(&self) -> usize {
        self.now.borrow().segments.clips
    }

    /// This step's segments.
    pub fn segments<R>(&self, read: impl FnOnce(&Segments) -> R) -> R {
        read(&self.now.borrow().segments)
    }

    /// A scalar of the tables.
    pub fn scalar(&self, id: usize) -> Result<f64, LowerError> {
        let scalars = &self.now.borrow().scalars;
        scalars.get(id).copied().ok_or_else(|| LowerError::Bug(format!("scalar {id} was not supplied")))
    }

    /// The type of a value.
    pub fn ty(&self, value: usize) -> &Type {
        &self.plan.values[value].ty
    }

    /// Extents of a value.
    pub fn shape(&self, value: usize) -> Arc<Shape> {
        self.now.borrow().shapes[self.plan.values[value].shape].clone()
    }

    /// An extent in a block.
    pub fn extent(&self, extent: Extent, block: usize) -> usize {
        self.now.borrow().segments.extent(&self.program.tables, extent, block)
    }

    /// The sum of extents in a block.
    pub fn sum(&self, extents: &[Extent], block: usize) -> usize {
        extents.iter().map(|e| self.extent(*e, block)).sum()
    }

    /// The slots and the arena.
    pub fn memory(&self) -> &Rc<Memory> {
        &self.memory
    }

    /// How a value's elements lie, as the kernel that runs sees them.
    pub fn stored(&self, value: usize) -> Stored {
        if self.wide.borrow().contains_key(&self.plan.root(value)) { Stored::F32 } else { self.plan.stored(value) }
    }

    /// Runs `body` with every operand and result of the step in f32.
    pub fn in_f32<R>(&self, step: &Step, body: impl FnOnce() -> R) -> R {
        self.widened(&step.inputs, &step.outputs, body)
    }

    /// Runs `body` with values in f32: what it reads is widened before, what it writes rounded after.
    pub fn widened<R>(&self, read: &[usize], written: &[usize], body: impl FnOnce() -> R) -> R {
        let (read, written) = (self.narrow(read), self.narrow(written));
        if read.is_empty() && written.is_empty() {
            return body();
        }
        let total = read.iter().chain(&written).map(|v| self.shape(*v).total()).sum();
        scratch(total, |room| {
            let places: Vec<Source> = read.iter().chain(&written).map(|v| self.source_of(*v)).collect();
            let mut starts = vec![];
            let mut rest = room;
            for place in &places {
                let (part, left) = std::mem::take(&mut rest).split_at_mut(place.len());
                starts.push(part.as_mut_ptr());
                rest = left;
            }
            let wide = |i: usize| Shared::at(starts[i], places[i].len(), Stored::F32);
            for (i, from) in places.iter().enumerate().take(read.len()) {
                let to = wide(i);
                // SAFETY: pieces do not overlap, nor do the parts of the room.
                pieces(from.len(), CHUNK, |a, b| unsafe {
                    from.read(to, a, b, |x| to.part(a, b - a).copy_from_slice(x));
                });
            }
            let values = read.iter().chain(&written).zip(&starts);
            self.wide.borrow_mut().extend(values.map(|(v, start)| (*v, *start as usize)));
            let result = body();
            self.wide.borrow_mut().clear();
            for (i, value) in written.iter().enumerate() {
                let (from, to) = (wide(read.len() + i), self.place_of(*value));
                // SAFETY: as above.
                pieces(to.len(), CHUNK, |a, b| unsafe {
                    to.write(a, b - a, |y| y.copy_from_slice(from.part(a, b - a)))
                });
            }
            result
        })
    }

    /// Numbers that [`Context::widened`] takes.
    pub fn wide_room(&self, read: &[usize], written: &[usize]) -> Room {
        let narrow = self.narrow(read).into_iter().chain(self.narrow(written));
        let sizes: Vec<usize> = narrow.map(|v| self.shape(v).total()).collect();
        let largest = sizes.iter().max().copied().unwrap_or(0);
        Room::shared(&[sizes.iter().sum()]).and(Room::task(&[CHUNK.min(largest)]))
    }

    /// The storage of values that lie in bf16.
    pub fn narrow(&self, values: &[usize]) -> Vec<usize> {
        let mut roots: Vec<usize> = values.iter().map(|v| self.plan.root(*v)).collect();
        roots.sort_unstable();
        roots.dedup();
        roots.retain(|v| self.stored(*v) == Stored::Bf16);
        roots
    }

    /// The storage of a value that is no lens, to be read.
    fn source_of(&self, value: usize) -> Source {
        let (start, _) = self.storage(value);
        Source::at(start, self.shape(value).total(), self.stored(value))
    }

    /// The storage of a value that is no lens, to be written.
    fn place_of(&self, value: usize) -> Shared {
        let (start, _) = self.storage(value);
        Shared::at(start, self.shape(value).total(), self.stored(value))
    }

    /// Start and length of a value's storage; lenses have none.
    fn storage(&self, value: usize) -> (*mut f32, usize) {
        let now = self.now.borrow();
        if let Some(start) = self.wide.borrow().get(&value) {
            return (*start as *mut f32, now.shapes[self.plan.values[value].shape].total());
        }
        match &self.plan.values[value].home {
            Home::Arena(buffer) => {
                let len = now.shapes[self.plan.values[value].shape].total();
                debug_assert!(now.offsets[*buffer] + self.plan.buffers[*buffer].stored.words(len) <= now.room);
                // SAFETY: `begin` made room for every buffer.
                (unsafe { self.memory.arena().add(now.offsets[*buffer]) }, len)
            }
            Home::Slot(slot) => self.memory.slot_place(*slot),
            Home::Input(input) => {
                let (start, len) = now.inputs.get(input.0 as usize).copied().unwrap_or((0, 0));
                (start as *mut f32, len)
            }
            Home::Lens(_) => panic!("compiler bug: a lens has no storage"),
        }
    }

    /// A value through strides.
    pub fn view(&self, value: usize) -> View {
        let shape = self.shape(value);
        let Home::Lens(lens) = &self.plan.values[value].home else {
            let mut strides = Vec::with_capacity(shape.blocks * shape.rank);
            for block in 0..shape.blocks {
                strides.extend(dense_strides(shape.dims(block)));
            }
            let bases = (0..shape.blocks).map(|b| shape.start(b)).collect();
            return View::new(self.storage(value).0, self.stored(value), shape, true, (bases, strides));
        };
        let (root_shape, clips) = (self.shape(lens.root), self.clips());
        let (ty, root) = (self.ty(value), self.ty(lens.root));
        let (mut bases, mut strides) =
            (Vec::with_capacity(shape.blocks), Vec::with_capacity(shape.blocks * shape.rank));
        for block in 0..shape.blocks {
            let count = |c: CountId| self.extent(Extent::Counted(c), block);
            let offset: usize = lens.offset.iter().map(|(at, by)| self.sum(at, block) * by.value(count)).sum();
            bases.push(root_shape.start(outer_block(ty.outer, root.outer, block, clips)) + offset);
            strides.extend(lens.strides.iter().map(|s| s.value(count)));
        }
        let (data, dense) = (self.storage(lens.root).0, lens.is_dense(ty, root));
        View::new(data, self.stored(value), shape, dense, (bases, strides))
    }

    /// Start and length of a value that lies densely.
    fn place(&self, value: usize) -> (*mut f32, usize) {
        let len = self.shape(value).total();
        let start = match &self.plan.values[value].home {
            Home::Lens(lens) => {
                let (ty, root) = (self.ty(value), self.ty(lens.root));
                assert!(lens.is_dense(ty, root), "compiler bug: a strided view where dense elements are read");
                let offset: usize = lens
                    .offset
                    .iter()
                    .map(|(at, by)| self.sum(at, 0) * by.value(|c| self.extent(Extent::Counted(c), 0)))
                    .sum();
                let (start, room) = self.storage(lens.root);
                assert!(offset + len <= room, "compiler bug: a view beyond its storage");
                match self.stored(value) {
                    Stored::F32 => start.wrapping_add(offset),
                    Stored::Bf16 => start.cast::<u16>().wrapping_add(offset).cast(),
                }
            }
            Home::Arena(_) | Home::Slot(_) | Home::Input(_) => {
                let (start, room) = self.storage(value);
                assert!(len <= room, "compiler bug: a value of {len} elements in {room}");
                start
            }
        };
        (start, len)
    }

    /// Elements of a value that lies densely, and that no result of the step takes over.
    pub fn dense(&self, value: usize) -> &[f32] {
        let (start, len) = self.place(value);
        assert!(self.stored(value) == Stored::F32, "compiler bug: a value in bf16, read as f32");
        if len == 0 {
            return &[];
        }
        // SAFETY: inside the storage, which the plan keeps unchanged while the kernel runs.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// A few numbers that lie densely, in f32.
    pub fn floats(&self, value: usize) -> Cow<'_, [f32]> {
        match self.stored(value) {
            Stored::F32 => Cow::Borrowed(self.dense(value)),
            Stored::Bf16 => {
                let (start, len) = self.place(value);
                let mut wide = vec![0.0; len];
                let (from, to) = (Source::at(start, len, Stored::Bf16), Shared::new(&mut wide));
                // SAFETY: inside the storage; nobody else has the vector.
                unsafe { from.read(to, 0, len, |x| to.part(0, len).copy_from_slice(x)) };
                Cow::Owned(wide)
            }
        }
    }

    /// Elements of input `i` of a step, which no result of it takes over.
    pub fn input(&self, step: &Step, i: usize) -> &[f32] {
        self.dense(step.inputs[i])
    }

    /// Input `i` of a step whose result may lie over it.
    pub fn source(&self, step: &Step, i: usize) -> Source {
        let (start, len) = self.place(step.inputs[i]);
        Source::at(start, len, self.stored(step.inputs[i]))
    }

    /// Room for result `port` of a step.
    #[allow(clippy::mut_from_ref, reason = "the plan gives every result its own room")]
    pub fn output(&self, step: &Step, port: usize) -> &mut [f32] {
        let (start, len) = self.result(step, port);
        assert!(self.stored(step.outputs[port]) == Stored::F32, "compiler bug: a result in bf16, written as f32");
        // SAFETY: inside the storage, which no other living value shares.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// A result as a place for tasks.
    pub fn shared(&self, step: &Step, port: usize) -> Shared {
        let (start, len) = self.result(step, port);
        Shared::at(start, len, self.stored(step.outputs[port]))
    }

    /// Start and length of a result.
    fn result(&self, step: &Step, port: usize) -> (*mut f32, usize) {
        let value = step.outputs[port];
        let (start, room) = self.storage(value);
        let len = self.shape(value).total();
        assert!(len <= room, "compiler bug: a result of {len} elements in {room}");
        (start, len)
    }

    /// The number that a value without dims holds.
    pub fn number(&self, value: usize) -> f64 {
        let root = self.plan.root(value);
        self.numbers[root].get().unwrap_or_else(|| {
            // SAFETY: every value without dims has a first element.
            f64::from(unsafe { *self.view(value).at(0) })
        })
    }

    /// Stores a number, exactly beside its f32.
    pub fn set_number(&self, step: &Step, number: f64) {
        self.numbers[step.outputs[0]].set(Some(number));
        self.output(step, 0)[0] = number as f32;
    }

    /// True if a value is one number for the step.
    pub fn is_number(&self, value: usize) -> bool {
        let ty = self.ty(value);
        ty.dims.is_empty() && ty.outer == Outer::One
    }

    /// True if the inputs that `plan` says exist were supplied with the size of their type.
    pub fn check_inputs(&self) -> Result<(), LowerError> {
        let now = self.now.borrow();
        for planned in &self.plan.values {
            if let Home::Input(id) = planned.home {
                let (want, have) =
                    (now.shapes[planned.shape].total(), now.inputs.get(id.0 as usize).map_or(0, |i| i.1));
                if want != have {
                    return Err(LowerError::Bug(format!("input {} has {have} elements, its type {want}", id.0)));
                }
            }
        }
        Ok(())
    }
}

/// A softmax or a mean over no tokens has no value: a clip without any is the mask's fault, and is named.
fn refuse_empty(tables: &Tables, plan: &Plan, segments: &Segments) -> Result<(), LowerError> {
    for (outer, extents) in &plan.shapes {
        let Outer::Segments(set) = outer else { continue };
        for segment in 0..segments.blocks(tables, *outer) {
            if extents.iter().any(|e| segments.extent(tables, *e, segment) == 0) {
                let (mask, clip) = (segment / segments.clips, segment % segments.clips);
                let name = &tables.masks[tables.sets[set.0 as usize].masks[mask]].name;
                return Err(LowerError::User(format!("mask `{name}` leaves clip {clip} of the batch no tokens")));
            }
        }
    }
    Ok(())
}

/// True if two steps have equal extents (their indices may differ).
fn same_counts(a: &Segments, b: &Segments) -> bool {
    a.clips == b.clips
        && a.sets.len() == b.sets.len()
        && a.sets
            .iter()
            .zip(&b.sets)
            .all(|(a, b)| a.context_count == b.context_count && a.target_count == b.target_count)
}
