//! Slots and arena of a machine: two anonymous mappings, which the system may back with huge pages.
//!
//! Slots and the arena are shared by the entries of a machine, which runs one entry at a time. The plan says that living
//! buffers do not overlap, so a kernel may hold its inputs and its outputs at once; that is what the `unsafe` here rests on.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{MmapMut, MmapOptions};

use crate::ir::graph::SlotId;
use crate::lower::LowerError;
use crate::plan::arena::ALIGN;

/// Slots and arena.
pub struct Memory {
    slots: UnsafeCell<Mapping>,
    slot_words: usize,
    /// Start and length of each slot.
    places: Vec<(usize, usize)>,
    arena: UnsafeCell<Mapping>,
    /// Bytes that kernels took on the side beyond what was planned.
    spilled: AtomicUsize,
}

impl Memory {
    /// Slots of the given sizes, all zero.
    pub fn new(sizes: &[usize]) -> Result<Memory, LowerError> {
        let mut memory = Memory::foretold(sizes);
        memory.slots = UnsafeCell::new(Mapping::new(memory.slot_words, "weights and optimiser state")?);
        Ok(memory)
    }

    /// Slots of the given sizes that are nowhere yet: for plans that are not run.
    pub fn foretold(sizes: &[usize]) -> Memory {
        let mut end = 0;
        let place = |&size: &usize| {
            let start = end;
            end += size.next_multiple_of(ALIGN);
            (start, size)
        };
        let places = sizes.iter().map(place).collect();
        Memory {
            slots: UnsafeCell::default(),
            slot_words: end,
            places,
            arena: UnsafeCell::default(),
            spilled: AtomicUsize::new(0),
        }
    }

    /// Content of a slot.
    pub fn slot(&self, id: SlotId) -> &[f32] {
        let (start, len) = self.slot_place(id);
        // SAFETY: slots lie inside their mapping; they change only while an entry runs, for which the machine is borrowed
        // mutably.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Content of a slot, to be changed.
    #[allow(clippy::mut_from_ref, reason = "the machine is borrowed mutably, or one kernel runs")]
    pub fn slot_mut(&self, id: SlotId) -> &mut [f32] {
        let (start, len) = self.slot_place(id);
        // SAFETY: as above; called through `&mut CpuMachine`, or by the one kernel that runs.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Where a slot is, and how long.
    pub fn slot_place(&self, id: SlotId) -> (*mut f32, usize) {
        let (start, len) = self.places[id.0 as usize];
        // SAFETY: only the address is taken.
        (unsafe { (*self.slots.get()).start }.wrapping_add(start), len)
    }

    /// Makes the arena hold so many words.
    pub fn grow(&self, words: usize) -> Result<(), LowerError> {
        // SAFETY: called between steps, when no view exists.
        let arena = unsafe { &mut *self.arena.get() };
        if arena.words < words {
            // The old one goes before the new one comes.
            *arena = Mapping::default();
            *arena = Mapping::new(words, "the values of a step")?;
        }
        Ok(())
    }

    /// The arena's first word.
    pub fn arena(&self) -> *mut f32 {
        // SAFETY: only the address is taken.
        unsafe { (*self.arena.get()).start }
    }

    /// Where kernels count what they take beyond the plan.
    pub fn spilled(&self) -> &AtomicUsize {
        &self.spilled
    }

    /// Bytes of the slots.
    pub fn slot_bytes(&self) -> usize {
        4 * self.slot_words
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        // SAFETY: only the length is read.
        let arena = 4 * unsafe { (*self.arena.get()).words };
        self.slot_bytes() + arena + self.spilled.load(Ordering::Relaxed)
    }
}

/// Anonymous memory of whole words, zero at first.
struct Mapping {
    /// Owns the memory.
    _memory: Option<MmapMut>,
    start: *mut f32,
    words: usize,
}

impl Default for Mapping {
    /// None; its start is aligned and never to be read.
    fn default() -> Mapping {
        Mapping { _memory: None, start: std::ptr::without_provenance_mut(4 * ALIGN), words: 0 }
    }
}

impl Mapping {
    fn new(words: usize, what: &str) -> Result<Mapping, LowerError> {
        if words == 0 {
            return Ok(Mapping::default());
        }
        let mapped = words.checked_mul(4).and_then(|bytes| MmapOptions::new().len(bytes).map_anon().ok());
        let Some(mut memory) = mapped else {
            let gib = words as f64 * 4.0 / (1u64 << 30) as f64;
            return Err(LowerError::User(format!(
                "not enough memory: {what} need {gib:.2} GiB; use fewer clips a call or a smaller model"
            )));
        };
        // A kindness: a system without huge pages does as well.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let start = memory.as_mut_ptr().cast();
        Ok(Mapping { _memory: Some(memory), start, words })
    }
}
