//! Reads the wanted frames of items, and keeps decoded ones while they fit the memory given.
//!
//! What is kept is whole files of undamaged frames at their own size, so that a frame from memory is the frame that
//! decoding would give, and the memory allowed changes nothing but the time. Room is reserved before a file is decoded,
//! so the limit is never exceeded. A file that takes far more than its even share says that the list will not fit, and
//! is not decoded beyond the frames that are wanted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::index::{Item, Media, frame_files};
use crate::video::{Deadline, Fault, Frame, Video, VideoError, picture};

/// A file may take so many times its even share of the memory before it is not worth decoding whole. By feel.
const FAIR_SHARES: usize = 4;

/// What a clip is chosen from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    /// Frames of the file.
    pub frames: usize,
    /// Frames a second, on average; nothing for pictures.
    pub fps: Option<f64>,
}

/// Frames of a file.
type Frames = Vec<Arc<Frame>>;

/// Reads frames through a memory of decoded files.
pub struct Reader {
    limit: usize,
    items: usize,
    timeout: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    used: usize,
    files: BTreeMap<usize, Entry>,
}

enum Entry {
    /// Being decoded by another worker, or not to be kept.
    Apart,
    /// All frames of the file, and their rate.
    Whole(Arc<Frames>, Option<f64>),
}

impl Reader {
    /// A reader for a list of so many items that keeps at most `limit` bytes of frames.
    pub fn new(limit: usize, items: usize, timeout: Duration) -> Reader {
        Reader { limit, items: items.max(1), timeout, kept: Mutex::default() }
    }

    /// Bytes of the frames that are kept or being decoded to be kept.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    /// The frames of an item that `choose` picks, given what it has. `place` names the item in the list.
    pub fn frames(
        &self,
        place: usize,
        item: &Item,
        choose: impl FnOnce(Length) -> Vec<usize>,
    ) -> Result<Frames, VideoError> {
        let kept = match self.lock().files.get(&place) {
            Some(Entry::Whole(all, fps)) => Some((all.clone(), *fps)),
            Some(Entry::Apart) | None => None,
        };
        let chosen = match kept {
            Some((all, fps)) => pick(&all, &choose(Length { frames: all.len(), fps })),
            None => self.read(place, item, choose)?,
        };
        match chosen.windows(2).all(|w| (w[0].width, w[0].height) == (w[1].width, w[1].height)) {
            true => Ok(chosen),
            false => Err(VideoError::new(&item.path, Fault::SizeChanges)),
        }
    }

    fn read(&self, place: usize, item: &Item, choose: impl FnOnce(Length) -> Vec<usize>) -> Result<Frames, VideoError> {
        let deadline = Deadline::after(self.timeout);
        match item.media {
            Media::Video => {
                let mut video = Video::open(&item.path, deadline)?;
                let info = video.info();
                let (count, bytes) = (info.frames, info.frames * info.width * info.height * 3);
                let fps = Some(info.fps);
                let wanted = choose(Length { frames: count, fps });
                // A whole file that fails or takes too long says nothing about the frames that are wanted.
                match self.keep(place, bytes, fps, || video.decode_intact().ok().flatten()) {
                    Some(all) => Ok(pick(&all, &wanted)),
                    None if deadline.passed() => {
                        Video::open(&item.path, Deadline::after(self.timeout))?.decode(&wanted)
                    }
                    None => video.decode(&wanted),
                }
            }
            Media::Frames => {
                let files =
                    frame_files(&item.path).map_err(|e| VideoError::new(&item.path, Fault::Missing(e.to_string())))?;
                if files.is_empty() {
                    return Err(VideoError::new(&item.path, Fault::NoPictures));
                }
                let wanted = choose(Length { frames: files.len(), fps: None });
                let mut read: BTreeMap<usize, Arc<Frame>> = BTreeMap::new();
                for &w in &wanted {
                    if let std::collections::btree_map::Entry::Vacant(slot) = read.entry(w) {
                        slot.insert(picture(&files[w], deadline)?);
                    }
                }
                let bytes = read.values().map(|f| f.rgb.len()).max().unwrap_or(0) * files.len();
                self.keep(place, bytes, None, || all_pictures(&files, &read, deadline));
                Ok(wanted.iter().map(|w| read[w].clone()).collect())
            }
            Media::Picture => {
                let frame = picture(&item.path, deadline)?;
                let bytes = frame.rgb.len();
                let all = vec![frame];
                let chosen = pick(&all, &choose(Length { frames: 1, fps: None }));
                self.keep(place, bytes, None, || Some(all));
                Ok(chosen)
            }
        }
    }

    /// Decodes a whole file into memory if there is room and nobody else does.
    fn keep(
        &self,
        place: usize,
        bytes: usize,
        fps: Option<f64>,
        decode: impl FnOnce() -> Option<Frames>,
    ) -> Option<Arc<Frames>> {
        {
            let mut kept = self.lock();
            let fits = bytes <= self.limit - kept.used && bytes / FAIR_SHARES <= self.limit / self.items;
            if !fits || kept.files.contains_key(&place) {
                return None;
            }
            kept.used += bytes;
            kept.files.insert(place, Entry::Apart);
        }
        let frames = decode().map(Arc::new);
        let mut kept = self.lock();
        kept.used -= bytes;
        let frames = frames?;
        // The file may hold larger frames than its header says.
        let found: usize = frames.iter().map(|f| f.rgb.len()).sum();
        if found <= self.limit - kept.used {
            kept.used += found;
            kept.files.insert(place, Entry::Whole(frames.clone(), fps));
        }
        Some(frames)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic of another worker leaves whole entries behind: every change is made under one lock.
        self.kept.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn all_pictures(files: &[impl AsRef<Path>], read: &BTreeMap<usize, Arc<Frame>>, deadline: Deadline) -> Option<Frames> {
    let one = |(i, file): (usize, &_)| match read.get(&i) {
        Some(frame) => Some(frame.clone()),
        None => picture(AsRef::<Path>::as_ref(file), deadline).ok(),
    };
    files.iter().enumerate().map(one).collect()
}

fn pick(all: &[Arc<Frame>], wanted: &[usize]) -> Frames {
    wanted.iter().map(|w| all[*w].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::TIMEOUT;

    fn item(path: &Path, media: Media) -> Item {
        Item { path: path.to_path_buf(), label: None, media }
    }

    fn clip(name: &str) -> Item {
        item(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/clips").join(name), Media::Video)
    }

    #[test]
    fn frames_from_memory_are_those_of_the_file() {
        let names = ["plant-1.mp4", "cockatoo-2.avi", "puck-2.ogv"];
        // Room for the first and the second, not for the third.
        let room = 36 * 256 * 192 * 3 + 70 * 224 * 126 * 3 + 1000;
        let (with, without) = (Reader::new(room, 1, TIMEOUT), Reader::new(0, 1, TIMEOUT));
        for round in 0..2 {
            for (place, name) in names.iter().enumerate() {
                let choose = |n: Length| vec![0, 3 + round, n.frames - 1, n.frames - 1];
                let a = with.frames(place, &clip(name), choose).unwrap();
                let b = without.frames(place, &clip(name), choose).unwrap();
                assert!(a == b, "{name}");
                assert!(with.used() <= room);
            }
        }
        assert_eq!(with.used(), room - 1000);
        assert_eq!(without.used(), 0);
    }

    #[test]
    fn frame_folders_and_pictures() {
        let folder = tempfile::tempdir().unwrap();
        for (i, name) in ["f1.ppm", "f2.ppm", "f10.ppm"].iter().enumerate() {
            let mut file = b"P6 2 2 255\n".to_vec();
            file.extend([i as u8 * 40; 12]);
            std::fs::write(folder.path().join(name), file).unwrap();
        }
        for limit in [0, 1000] {
            let reader = Reader::new(limit, 1, TIMEOUT);
            for _ in 0..2 {
                let of = |media, path: &Path, choose: fn(Length) -> Vec<usize>| {
                    let frames = reader.frames(media as usize, &item(path, media), choose).unwrap();
                    frames.iter().map(|f| f.rgb[0]).collect::<Vec<_>>()
                };
                assert_eq!(of(Media::Frames, folder.path(), |n| vec![0, n.frames - 1, 1]), [0, 80, 40]);
                assert_eq!(of(Media::Picture, &folder.path().join("f2.ppm"), |n| vec![n.frames - 1]), [40]);
            }
        }
    }
}
