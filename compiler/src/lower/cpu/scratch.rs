//! Memory that kernels use on the side.
//!
//! The arena has a workspace for every step whose kernel needs one: a part that the kernel takes outside of its tasks, and
//! behind it a part for each thread, which tasks take. How large they are is foretold from the step's extents, so that
//! the arena's size is all that a step holds. A kernel that asks for more than was foretold gets memory of its thread's
//! own, which is kept and counted; tests see to it that this does not happen.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::plan::arena::ALIGN;

/// Numbers that a kernel takes on the side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Outside of its tasks.
    pub shared: usize,
    /// In each task.
    pub task: usize,
}

impl Room {
    /// Pieces of memory that are held at once outside of tasks.
    pub fn shared(pieces: &[usize]) -> Room {
        Room { shared: whole(pieces), task: 0 }
    }

    /// Pieces of memory that a task holds at once.
    pub fn task(pieces: &[usize]) -> Room {
        Room { shared: 0, task: whole(pieces) }
    }

    /// Both at once.
    pub fn and(self, other: Room) -> Room {
        Room { shared: self.shared + other.shared, task: self.task + other.task }
    }

    /// One after the other.
    pub fn or(self, other: Room) -> Room {
        Room { shared: self.shared.max(other.shared), task: self.task.max(other.task) }
    }

    /// Numbers for so many threads.
    pub fn words(self, threads: usize) -> usize {
        self.shared + threads * self.task
    }
}

fn whole(pieces: &[usize]) -> usize {
    pieces.iter().map(|n| n.next_multiple_of(ALIGN)).sum()
}

/// Where the workspace of a step is.
#[derive(Clone, Copy)]
struct Workspace {
    start: *mut f32,
    room: Room,
    threads: usize,
    spilled: *const AtomicUsize,
}

/// What of it this thread may take.
#[derive(Clone, Copy)]
struct Lent {
    of: Workspace,
    next: usize,
    end: usize,
    in_task: bool,
}

thread_local! {
    static LENT: Cell<Option<Lent>> = const { Cell::new(None) };
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(vec![]) };
}

/// Puts back what a thread could take before, after a panic too.
struct Restore(Option<Lent>);

impl Drop for Restore {
    fn drop(&mut self) {
        LENT.set(self.0);
    }
}

/// Runs `body`, whose kernel finds its workspace at `start`; what it takes beyond is added to `spilled`.
///
/// # Safety
/// So many numbers lie at `start`, initialised, and nobody else uses them before `body` returns.
pub unsafe fn with_workspace<R>(
    start: *mut f32,
    room: Room,
    threads: usize,
    spilled: &AtomicUsize,
    body: impl FnOnce() -> R,
) -> R {
    let of = Workspace { start, room, threads, spilled };
    let _restore = Restore(LENT.replace(Some(Lent { of, next: 0, end: room.shared, in_task: false })));
    body()
}

/// The workspace of the step that runs, handed to the threads that run its tasks.
#[derive(Clone, Copy)]
pub struct Handed(Option<Lent>);

// SAFETY: threads take parts of their own.
unsafe impl Send for Handed {}
unsafe impl Sync for Handed {}

impl Handed {
    /// What this thread has.
    pub fn here() -> Handed {
        Handed(LENT.get())
    }

    /// Runs a task with the part of this thread. A task inside of a task goes on where that one is.
    pub fn task<R>(&self, body: impl FnOnce() -> R) -> R {
        let Some(Lent { of, .. }) = self.0 else { return body() };
        let Some(thread) = rayon::current_thread_index().filter(|t| *t < of.threads) else { return body() };
        if LENT.get().is_some_and(|lent| lent.in_task) {
            return body();
        }
        let next = of.room.shared + thread * of.room.task;
        let lent = Lent { of, next, end: next + of.room.task, in_task: true };
        let _restore = Restore(LENT.replace(Some(lent)));
        body()
    }
}

/// Lends a piece of memory, its content undefined (but initialised).
pub fn scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    match LENT.get() {
        Some(lent) if lent.next + whole(&[len]) <= lent.end => {
            let _restore = Restore(LENT.replace(Some(Lent { next: lent.next + whole(&[len]), ..lent })));
            // SAFETY: inside the workspace, and this thread's until `body` returns.
            body(unsafe { std::slice::from_raw_parts_mut(lent.of.start.add(lent.next), len) })
        }
        lent => {
            let mut memory = SPARE.with(|s| s.borrow_mut().pop()).unwrap_or_default();
            if memory.len() < len {
                if let Some(lent) = lent {
                    // SAFETY: the count outlives the step.
                    unsafe { &*lent.of.spilled }.fetch_add(4 * (len - memory.len()), Ordering::Relaxed);
                }
                memory.resize(len, 0.0);
            }
            let result = body(&mut memory[..len]);
            SPARE.with(|s| s.borrow_mut().push(memory));
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parallel::each;
    use super::*;

    #[test]
    fn every_thread_has_a_part_and_more_is_counted() {
        let room = Room::shared(&[5]).and(Room::task(&[3, 3]));
        let mut memory = vec![0.0f32; room.words(2)];
        let (start, spilled) = (memory.as_mut_ptr() as usize, AtomicUsize::new(0));
        let inside = |part: &[f32]| {
            let at = part.as_ptr() as usize;
            start <= at && at < start + 4 * room.words(2)
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| {
            let body = || {
                scratch(5, |shared| {
                    assert!(inside(shared));
                    each(50, |i| {
                        scratch(3, |a| {
                            scratch(3, |b| {
                                assert!(inside(a) && inside(b));
                                a.fill(i as f32);
                                b.fill(-(i as f32));
                                std::thread::yield_now();
                                assert!(a.iter().all(|x| *x == i as f32) && b.iter().all(|x| *x == -(i as f32)));
                            });
                        });
                    });
                    assert_eq!(spilled.load(Ordering::Relaxed), 0);
                    scratch(100, |more| assert!(!inside(more)));
                });
            };
            // SAFETY: the memory is there until the body returns.
            unsafe { with_workspace(start as *mut f32, room, 2, &spilled, body) };
        });
        assert_eq!(spilled.load(Ordering::Relaxed), 400);
    }
}
