//! Batches, prepared ahead of the step by workers.
//!
//! The unit of work is a clip: slot j of step s. Workers take clips in order and put them on a shelf of bounded length;
//! `next` takes them from it in order. With no workers `next` does the work itself. An item that cannot be read is
//! replaced and the substitution recorded; a continued run is handed the records, so that a time-out of the first run
//! does not change the second.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vjepac::ir::graph::{Pace, VideoSpec};
use vjepac::ir::philox::Stream;

use super::augment::{render, window};
use super::cache::{Length, Reader};
use super::index::{Index, Media};
use super::order::Order;
use super::sample::frame_places;
use crate::error::{Error, Result};
use crate::video::{Fault, VideoError};

/// Items tried for one slot before the run ends.
pub const ATTEMPTS: u32 = 20;

/// Memory for decoded frames, unless a caller says otherwise: 1 GiB.
pub const CACHE_MEMORY: usize = 1 << 30;

/// What a loader reads and how.
pub struct LoaderOptions {
    /// Lists with their shares; see [`Order::new`].
    pub data: Vec<(Index, Option<f64>)>,
    /// Frames, size, crop.
    pub spec: VideoSpec,
    /// Clips a step.
    pub batch: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Threads that decode ahead; 0 decodes in `next`.
    pub workers: usize,
    /// Bytes of decoded frames that are kept.
    pub cache_memory: usize,
    /// The first step that `next` gives, from 1.
    pub first_step: u64,
    /// Substitutions of the run that is continued.
    pub recorded: Vec<Substitution>,
    /// Time for one file.
    pub timeout: Duration,
}

/// An item that could not be read, and what took its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Substitution {
    /// Step, from 1.
    pub step: u64,
    /// Place in the batch, from 0.
    pub slot: u64,
    /// How many items had failed for this slot before.
    pub attempt: u32,
    /// The item that failed.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
    /// The item tried next.
    pub replacement: PathBuf,
}

/// The clips of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The step, from 1.
    pub step: u64,
    /// [batch, frames, size, size, 3], normalised.
    pub clips: Vec<f32>,
    /// The class of each clip, where the list gives one.
    pub labels: Vec<Option<u32>>,
    /// The file of each clip.
    pub paths: Vec<PathBuf>,
    /// Items that were replaced.
    pub substitutions: Vec<Substitution>,
    /// Time that the caller waited for these clips.
    pub wait_seconds: f64,
}

/// Gives the batches of steps one after another.
pub struct Loader {
    inner: Arc<Inner>,
    workers: Vec<JoinHandle<()>>,
    step: u64,
}

/// What workers share.
struct Inner {
    order: Order,
    reader: Reader,
    spec: VideoSpec,
    batch: u64,
    seed: u64,
    recorded: BTreeMap<(u64, u64, u32), Substitution>,
    /// Items that failed for good: they are not read again.
    broken: Mutex<BTreeMap<usize, String>>,
    shelf: Mutex<Shelf>,
    /// A clip was put on the shelf.
    filled: Condvar,
    /// A clip was taken from the shelf, or the loader ends.
    emptied: Condvar,
}

/// Clips by number: (step - 1) * batch + slot.
struct Shelf {
    done: BTreeMap<u64, Result<Loaded>>,
    /// The next clip that a worker takes up.
    next: u64,
    /// Clips from here on are not begun yet.
    limit: u64,
    stop: bool,
}

struct Loaded {
    clip: Vec<f32>,
    label: Option<u32>,
    path: PathBuf,
    substitutions: Vec<Substitution>,
}

impl Loader {
    /// Starts the workers.
    pub fn new(options: LoaderOptions) -> Result<Loader> {
        let LoaderOptions { data, spec, batch, seed, workers, cache_memory, first_step, recorded, timeout } = options;
        if first_step == 0 {
            return Err(Error::failed("compiler bug: steps count from 1, a loader was asked for step 0"));
        }
        let order = Order::new(data, seed, batch)?;
        let batch = batch as u64;
        let first = (first_step - 1) * batch;
        let inner = Arc::new(Inner {
            reader: Reader::new(cache_memory, order.items().len(), timeout),
            order,
            spec,
            batch,
            seed,
            recorded: recorded.into_iter().map(|s| ((s.step, s.slot, s.attempt), s)).collect(),
            broken: Mutex::default(),
            shelf: Mutex::new(Shelf {
                done: BTreeMap::new(),
                next: first,
                // A whole batch waits ready, and every worker has a clip in hand.
                limit: first + batch + workers as u64,
                stop: false,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        });
        let mut loader = Loader { inner: inner.clone(), workers: Vec::new(), step: first_step };
        for place in 0..workers {
            let inner = inner.clone();
            let thread = std::thread::Builder::new().name(format!("decode-{place}")).spawn(move || inner.work());
            loader.workers.push(thread.map_err(|e| Error::failed(format!("cannot start a decode worker: {e}")))?);
        }
        Ok(loader)
    }

    /// Items of all lists.
    pub fn items(&self) -> usize {
        self.inner.order.items().len()
    }

    /// The batch of the next step. Fails if for some slot no item could be read.
    #[allow(clippy::should_implement_trait)] // there is no end to iterate to
    pub fn next(&mut self) -> Result<Batch> {
        let inner = &self.inner;
        let mut batch = Batch {
            step: self.step,
            clips: Vec::with_capacity(inner.batch as usize * inner.clip_len()),
            labels: Vec::new(),
            paths: Vec::new(),
            substitutions: Vec::new(),
            wait_seconds: 0.0,
        };
        for slot in 0..inner.batch {
            let start = Instant::now();
            let loaded =
                if self.workers.is_empty() { inner.load_safely(self.step, slot) } else { inner.take(self.step, slot) };
            batch.wait_seconds += start.elapsed().as_secs_f64();
            let loaded = loaded?;
            batch.clips.extend_from_slice(&loaded.clip);
            batch.labels.push(loaded.label);
            batch.paths.push(loaded.path);
            batch.substitutions.extend(loaded.substitutions);
        }
        self.step += 1;
        Ok(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.inner.lock().stop = true;
        self.inner.emptied.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panic was handed on as an error of its clip.
            let _ = worker.join();
        }
    }
}

impl Inner {
    /// A worker: takes up clips in order until the loader ends.
    fn work(&self) {
        loop {
            let number = {
                let mut shelf = self.lock();
                while !shelf.stop && shelf.next >= shelf.limit {
                    shelf = self.emptied.wait(shelf).unwrap_or_else(|e| e.into_inner());
                }
                if shelf.stop {
                    return;
                }
                shelf.next += 1;
                shelf.next - 1
            };
            let loaded = self.load_safely(number / self.batch + 1, number % self.batch);
            self.lock().done.insert(number, loaded);
            self.filled.notify_all();
        }
    }

    /// Waits for a clip and takes it from the shelf.
    fn take(&self, step: u64, slot: u64) -> Result<Loaded> {
        let number = (step - 1) * self.batch + slot;
        let mut shelf = self.lock();
        loop {
            if let Some(loaded) = shelf.done.remove(&number) {
                shelf.limit += 1;
                drop(shelf);
                self.emptied.notify_all();
                return loaded;
            }
            shelf = self.filled.wait(shelf).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// A panic while loading is an error of the clip: else the caller would wait for it for ever.
    fn load_safely(&self, step: u64, slot: u64) -> Result<Loaded> {
        catch_unwind(AssertUnwindSafe(|| self.load(step, slot))).unwrap_or_else(|_| {
            Err(Error::failed(format!("compiler bug: a panic while loading slot {slot} of step {step}")))
        })
    }

    /// The clip of a slot, from the first of its items that can be read.
    fn load(&self, step: u64, slot: u64) -> Result<Loaded> {
        let mut substitutions: Vec<Substitution> = Vec::new();
        for attempt in 0..ATTEMPTS {
            let place = self.order.pick(step, slot, attempt);
            let item = &self.order.items()[place];
            if let Some(last) = substitutions.last_mut() {
                last.replacement = item.path.clone();
            }
            let recorded = self.recorded.get(&(step, slot, attempt)).filter(|r| r.path == item.path);
            let reason = match recorded {
                Some(record) => record.reason.clone(),
                None => match self.clip(place, step, slot, attempt) {
                    Ok(clip) => return Ok(Loaded { clip, label: item.label, path: item.path.clone(), substitutions }),
                    Err(reason) => reason,
                },
            };
            let (path, replacement) = (item.path.clone(), PathBuf::new());
            substitutions.push(Substitution { step, slot, attempt, path, reason, replacement });
        }
        let first = &substitutions[0];
        Err(Error::failed(format!(
            "step {step}: {ATTEMPTS} items in a row could not be read, the first of them `{}`: {}; check the list",
            first.path.display(),
            first.reason
        )))
    }

    /// Decodes, crops and normalises an item's clip, or says why not.
    fn clip(&self, place: usize, step: u64, slot: u64, attempt: u32) -> std::result::Result<Vec<f32>, String> {
        let broken = || self.broken.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(reason) = broken().get(&place) {
            return Err(reason.clone());
        }
        let spec = &self.spec;
        let stream = |site| Stream::new(self.seed, step, Some(slot), site, attempt);
        let item = &self.order.items()[place];
        if let (Pace::Rate(rate), Media::Frames) = (spec.pace, item.media) {
            let reason =
                format!("a folder of frames has no rate to take {rate} frames a second of; set `every` instead");
            broken().insert(place, reason.clone());
            return Err(reason);
        }
        let choose = |length: Length| {
            let step = spec.pace.step(length.fps.unwrap_or(0.0)); // one picture has no rate, and needs none
            frame_places(length.frames, spec.frames, step, stream("clips.frames").uniform(0))
        };
        let frames = self.reader.frames(place, item, choose).map_err(|e| {
            if lasts(&e) {
                broken().insert(place, e.reason());
            }
            e.reason()
        })?;
        let window = window(spec, frames[0].height, frames[0].width, &stream("clips.crop"));
        let mut clip = Vec::with_capacity(self.clip_len());
        for frame in &frames {
            render(frame, &window, spec.size, &mut clip);
        }
        Ok(clip)
    }

    /// Numbers of a clip.
    fn clip_len(&self) -> usize {
        self.spec.frames * self.spec.size * self.spec.size * 3
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A fault of the file itself, for any frames of it and at any time.
fn lasts(error: &VideoError) -> bool {
    match error.fault {
        Fault::TooSmall(_) | Fault::TooLarge(_) | Fault::NoPictures | Fault::Unreadable(_) => true,
        Fault::Missing(_) | Fault::Damaged { .. } | Fault::Beyond { .. } | Fault::SizeChanges => false,
        Fault::TimedOut(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::index::Source;
    use super::*;
    use crate::video::TIMEOUT;

    fn examples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/clips")
    }

    fn options(path: &Path, workers: usize) -> LoaderOptions {
        let spec = VideoSpec {
            name: "clip".into(),
            frames: 4,
            pace: Pace::Every(4),
            size: 24,
            crop: Some((0.3, 1.0)),
            aspect: Some((0.75, 1.35)),
            flip: true,
        };
        LoaderOptions {
            data: vec![(Index::read("clips", path, Source::Video).unwrap(), None)],
            spec,
            batch: 5,
            seed: 7,
            workers,
            cache_memory: 0,
            first_step: 1,
            recorded: vec![],
            timeout: TIMEOUT,
        }
    }

    /// Everything of a batch that may not depend on how it was made.
    fn batches(options: LoaderOptions, steps: usize) -> Vec<Batch> {
        let mut loader = Loader::new(options).unwrap();
        (0..steps).map(|_| Batch { wait_seconds: 0.0, ..loader.next().unwrap() }).collect()
    }

    #[test]
    fn batches_are_the_same_for_any_workers_memory_and_start() {
        let expected = batches(options(&examples(), 0), 5);
        assert_eq!(expected[0].clips.len(), 5 * 4 * 24 * 24 * 3);
        assert!(expected.windows(2).all(|w| w[0].clips != w[1].clips));
        for (workers, cache_memory) in [(1, 0), (3, 0), (0, 1 << 30), (3, 1 << 30), (2, 3 << 20)] {
            let found = batches(LoaderOptions { cache_memory, ..options(&examples(), workers) }, 5);
            assert!(found == expected, "{workers} workers, {cache_memory} bytes");
        }
        let later = batches(LoaderOptions { first_step: 4, ..options(&examples(), 2) }, 2);
        assert!(later == expected[3..]);
        let other = batches(LoaderOptions { seed: 8, ..options(&examples(), 0) }, 1);
        assert!(other[0].clips != expected[0].clips);
    }

    #[test]
    fn a_rate_is_a_step_in_files_of_that_rate() {
        // plant-1.mp4 has 30 frames a second: 4 a second are every seventh, as published.
        let of = |pace| {
            let mut options = options(&examples().join("plant-1.mp4"), 0);
            options.spec.pace = pace;
            batches(options, 1).remove(0).clips
        };
        let info = crate::video::probe(&examples().join("plant-1.mp4")).unwrap();
        let step = Pace::Rate(4.0).step(info.fps);
        assert!(step == 7 && of(Pace::Rate(4.0)) == of(Pace::Every(step)), "{} fps", info.fps);
        assert!(of(Pace::Rate(4.0)) != of(Pace::Every(step + 1)));
    }

    #[test]
    fn a_folder_of_frames_has_no_rate() {
        let folder = tempfile::tempdir().unwrap();
        let clip = folder.path().join("clip");
        std::fs::create_dir(&clip).unwrap();
        for i in 0..9 {
            std::fs::write(clip.join(format!("f{i}.ppm")), b"P6 2 2 255\n123456789012").unwrap();
        }
        let mut options = options(folder.path(), 0);
        options.spec.pace = Pace::Rate(4.0);
        let error = Loader::new(options).unwrap().next().unwrap_err().to_string();
        assert!(error.contains("has no rate") && error.contains("set `every`"), "{error}");
    }

    #[test]
    fn clips_are_normalised_pictures() {
        for batch in batches(options(&examples(), 0), 3) {
            assert!(batch.clips.iter().all(|v| (-2.2..2.7).contains(v)));
            let clip = &batch.clips[..24 * 24 * 3];
            let mean = clip.iter().sum::<f32>() / clip.len() as f32;
            assert!(clip.iter().any(|v| (v - mean).abs() > 0.2), "a picture of one colour");
        }
    }

    #[test]
    fn labels_come_from_the_list() {
        for batch in batches(options(&examples().join("clips.csv"), 0), 2) {
            for (path, label) in batch.paths.iter().zip(batch.labels) {
                let name = path.file_name().unwrap().to_str().unwrap();
                let names = ["ball", "bunny", "cockatoo", "plant", "puck", "throw", "tree"];
                assert_eq!(label.map(|l| names[l as usize]), name.split('-').next());
            }
        }
    }

    /// A folder with two good clips, a cut one, noise, and a tiny file.
    fn folder_with_bad_files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        let good = |name| std::fs::read(examples().join(name)).unwrap();
        put("a.mp4", &good("plant-1.mp4"));
        put("b.webm", &good("bunny-3.webm"));
        put("cut.mov", &good("throw-1.mov")[..5000]);
        put("noise.mkv", &[99; 4000]);
        put("tiny.avi", &[0; 10]);
        folder
    }

    #[test]
    fn unreadable_files_are_replaced_and_named() {
        let folder = folder_with_bad_files();
        let one = batches(options(folder.path(), 0), 4);
        assert!(one == batches(options(folder.path(), 3), 4));
        let all: Vec<&Substitution> = one.iter().flat_map(|b| &b.substitutions).collect();
        let reasons = |name: &str| -> Vec<&str> {
            all.iter().filter(|s| s.path.ends_with(name)).map(|s| s.reason.as_str()).collect()
        };
        assert!(reasons("a.mp4").is_empty() && reasons("b.webm").is_empty());
        // 20 slots are four epochs of five files.
        assert!(reasons("tiny.avi").len() >= 4 && reasons("noise.mkv").len() >= 4 && reasons("cut.mov").len() >= 4);
        assert!(reasons("tiny.avi").iter().all(|r| *r == "10 bytes, fewer than the 1024 that a video has"));
        assert!(all.iter().all(|s| s.replacement.starts_with(folder.path())));
        assert!(one.iter().flat_map(|b| &b.paths).all(|p| p.ends_with("a.mp4") || p.ends_with("b.webm")));
    }

    #[test]
    fn recorded_substitutions_are_repeated() {
        let folder = folder_with_bad_files();
        // As if reading had timed out in the first run.
        let first = batches(options(folder.path(), 0), 1).remove(0);
        let slot = first.paths.iter().position(|p| p.ends_with("a.mp4")).unwrap() as u64;
        let attempt = first.substitutions.iter().filter(|s| s.slot == slot).count() as u32;
        let record = Substitution {
            step: 1,
            slot,
            attempt,
            path: folder.path().join("a.mp4"),
            reason: "reading took longer than 30 s".into(),
            replacement: PathBuf::new(),
        };
        let again = batches(LoaderOptions { recorded: vec![record], ..options(folder.path(), 2) }, 1).remove(0);
        let reasons: Vec<&str> =
            again.substitutions.iter().filter(|s| s.slot == slot).map(|s| s.reason.as_str()).collect();
        assert_eq!(reasons[attempt as usize], "reading took longer than 30 s");
        assert_ne!(again.clips, first.clips);
    }

    #[test]
    fn a_list_of_unreadable_files_ends_the_run() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.mp4"), [1; 2000]).unwrap();
        for workers in [0, 2] {
            let error = Loader::new(options(folder.path(), workers)).unwrap().next().unwrap_err().to_string();
            assert!(error.starts_with("step 1: 20 items in a row could not be read, the first of them `"), "{error}");
        }
    }
}
