//! Decodes wanted frames, exactly.
//!
//! With a table of time stamps: seek to the key frame at or before the first wanted frame, feed the decoder from exactly
//! that packet, and take frames by their stamps. If a wanted frame does not come that way (a stream that refreshes
//! gradually, a container that seeks badly), decode from the start. Without a table: decode from the start and count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ffmpeg_next::{Error, Packet, codec, decoder, frame};

use super::frame::{Converter, Frame};
use super::probe::{self, Info, Source, Timeline};
use super::{Deadline, Fault, VideoError};

/// An opened video.
pub struct Video {
    path: PathBuf,
    deadline: Deadline,
    source: Source,
    timeline: Option<Timeline>,
    info: Info,
    /// The source has not been read since it was opened.
    fresh: bool,
}

/// Where decoding starts.
#[derive(Clone, Copy, PartialEq)]
enum From {
    /// At the first packet.
    Start,
    /// At the key frame with this stamp.
    Key(i64),
}

/// Wanted frames that came, and whether all went without an error.
struct Take {
    frames: BTreeMap<usize, Arc<Frame>>,
    clean: bool,
}

impl Video {
    /// Opens a file and finds out how many frames it has.
    pub fn open(path: &Path, deadline: Deadline) -> Result<Video, VideoError> {
        let mut source = probe::open(path, deadline)?;
        let timeline = probe::timeline(&mut source, path, deadline)?;
        let info = probe::info(&source, timeline.as_ref(), timeline.as_ref().map_or(0, |t| t.stamps.len()));
        let mut video = Video { path: path.to_path_buf(), deadline, source, timeline, info, fresh: false };
        if video.timeline.is_none() {
            let mut count = 0;
            video.rewind()?;
            video.run(From::Start, |_, _, _| {
                count += 1;
                true
            })?;
            video.info = probe::info(&video.source, None, count);
        }
        if video.info.frames == 0 {
            return Err(VideoError::new(path, Fault::Unreadable("no frame in it could be decoded".into())));
        }
        Ok(video)
    }

    /// Frames, size, rate, codec.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The frames of these places, in the order asked for.
    pub fn decode(&mut self, wanted: &[usize]) -> Result<Vec<Arc<Frame>>, VideoError> {
        let frames = self.info.frames;
        if let Some(&frame) = wanted.iter().find(|w| **w >= frames) {
            return self.fail(Fault::Beyond { frame, frames });
        }
        let mut places = wanted.to_vec();
        places.sort_unstable();
        places.dedup();
        let Some(&first) = places.first() else { return Ok(vec![]) };

        let from = self.start_for(first);
        let mut take = self.take(from, &places)?;
        if from != From::Start && take.frames.len() < places.len() {
            take = self.take(From::Start, &places)?;
        }
        if let Some(&frame) = places.iter().find(|p| !take.frames.contains_key(p)) {
            return self.fail(Fault::Damaged { frame, frames });
        }
        Ok(wanted.iter().map(|w| take.frames[w].clone()).collect())
    }

    /// Every frame, or none if any of them, or anything between them, is damaged. Then each of them equals what
    /// [`Video::decode`] gives.
    pub fn decode_intact(&mut self) -> Result<Option<Vec<Arc<Frame>>>, VideoError> {
        let places: Vec<usize> = (0..self.info.frames).collect();
        let take = self.take(From::Start, &places)?;
        let whole = take.clean && take.frames.len() == places.len();
        Ok(whole.then(|| take.frames.into_values().collect()))
    }

    /// The last key frame that is not after the wanted frame.
    fn start_for(&self, first: usize) -> From {
        let Some(table) = &self.timeline else { return From::Start };
        let keys = &table.keys[..table.keys.partition_point(|k| *k <= table.stamps[first])];
        keys.last().map_or(From::Start, |key| From::Key(*key))
    }

    /// Decodes until all the places (ascending) have come.
    fn take(&mut self, from: From, places: &[usize]) -> Result<Take, VideoError> {
        let mut take = Take { frames: BTreeMap::new(), clean: true };
        let mut converter = Converter::default();
        let timeline = self.timeline.take(); // lent to the closure below
        let mut count = 0;
        let reached = match from {
            From::Start => self.rewind().map(|()| true),
            From::Key(stamp) => Ok(self.seek(stamp)),
        };
        let outcome = reached.and_then(|there| {
            if !there {
                return Ok(false);
            }
            self.run(from, |picture, stamp, sound| {
                let place = match &timeline {
                    Some(table) => stamp.and_then(|s| table.stamps.binary_search(&s).ok()),
                    None => Some(count),
                };
                count += 1;
                take.clean &= sound && place.is_some();
                if let Some(place) = place.filter(|p| sound && places.binary_search(p).is_ok())
                    && let Some(frame) = converter.rgb(picture)
                {
                    take.frames.insert(place, Arc::new(frame));
                }
                take.frames.len() < places.len()
            })
        });
        self.timeline = timeline;
        take.clean &= outcome?;
        Ok(take)
    }

    /// Decodes from where the source stands and hands over each picture with its stamp and whether it is undamaged,
    /// until `each` says no. True if no packet was refused.
    fn run(
        &mut self,
        from: From,
        mut each: impl FnMut(&frame::Video, Option<i64>, bool) -> bool,
    ) -> Result<bool, VideoError> {
        self.fresh = false;
        let mut decoder = open_decoder(&self.source, &self.path)?;
        let mut packet = Packet::empty();
        let mut picture = frame::Video::empty();
        let mut waiting = from;
        let mut clean = true;
        let mut done = false;
        while !done {
            let more = probe::read(&mut packet, &mut self.source, &self.path, self.deadline)?;
            if let From::Key(key) = waiting
                && more
            {
                if packet.pts() != Some(key) {
                    continue;
                }
                waiting = From::Start;
            }
            let sent = if more { decoder.send_packet(&packet) } else { decoder.send_eof() };
            done = !more;
            match sent {
                Ok(()) => {}
                Err(Error::Eof) => break,
                Err(_) => clean = false,
            }
            loop {
                match decoder.receive_frame(&mut picture) {
                    Ok(()) => {
                        let sound = !picture.is_corrupt() && !picture.has_decode_errors();
                        let stamp = picture.pts().or_else(|| picture.timestamp());
                        if !each(&picture, stamp, sound) {
                            return Ok(clean);
                        }
                    }
                    Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => break,
                    Err(Error::Eof) => {
                        done = true;
                        break;
                    }
                    Err(_) => {
                        clean = false;
                        break;
                    }
                }
                if self.deadline.passed() {
                    return self.fail(Fault::TimedOut(self.deadline.timeout));
                }
            }
        }
        Ok(clean)
    }

    /// Opens the file again: some containers do not seek back to their very start.
    fn rewind(&mut self) -> Result<(), VideoError> {
        if !self.fresh {
            self.source = probe::open(&self.path, self.deadline)?;
            self.fresh = true;
        }
        Ok(())
    }

    /// Moves the source to or before a key frame; false if it cannot.
    fn seek(&mut self, stamp: i64) -> bool {
        self.fresh = false;
        let (stream, flags) = (self.source.stream as i32, ffmpeg_next::ffi::AVSEEK_FLAG_BACKWARD);
        // SAFETY: the context of an open input, and a stream that it has.
        let code = unsafe { ffmpeg_next::ffi::av_seek_frame(self.source.input.as_mut_ptr(), stream, stamp, flags) };
        code >= 0
    }

    fn fail<T>(&self, fault: Fault) -> Result<T, VideoError> {
        Err(VideoError::new(&self.path, fault))
    }
}

/// The first picture of a file of any size.
pub(super) fn first_frame(path: &Path, deadline: Deadline) -> Result<Arc<Frame>, VideoError> {
    probe::look_at(path, 1)?;
    let source = probe::open_any(path, deadline)?;
    let info = probe::info(&source, None, 1);
    let mut video = Video { path: path.to_path_buf(), deadline, source, timeline: None, info, fresh: true };
    Ok(video.decode(&[0])?.swap_remove(0))
}

/// A decoder on one thread: files are decoded side by side instead.
fn open_decoder(source: &Source, path: &Path) -> Result<decoder::Video, VideoError> {
    let fail = |e| VideoError::new(path, Fault::Unreadable(probe::words(e)));
    let stream = source.input.stream(source.stream).ok_or_else(|| fail(Error::StreamNotFound))?;
    let mut context = codec::Context::from_parameters(stream.parameters()).map_err(fail)?;
    context.set_threading(codec::threading::Config { count: 1, ..Default::default() });
    let mut decoder = context.decoder();
    decoder.set_packet_time_base(stream.time_base());
    decoder.video().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::super::TIMEOUT;
    use super::*;

    fn clips() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/clips")
    }

    fn open(name: &str) -> Video {
        Video::open(&clips().join(name), Deadline::after(TIMEOUT)).unwrap()
    }

    /// Frames, size, rate and codec of every example clip, as `ffprobe -count_frames` gives them.
    const CLIPS: [(&str, usize, usize, usize, f64, &str); 16] = [
        ("ball-1.mp4", 75, 180, 144, 25.0, "mpeg4"),
        ("ball-2.mpg", 75, 180, 144, 25.0, "mpeg2video"),
        ("ball-3.mkv", 80, 240, 192, 25.0, "av1"),
        ("bunny-1.mp4", 66, 320, 180, 25.0, "h264"),
        ("bunny-2.mkv", 66, 256, 144, 25.0, "hevc"),
        ("bunny-3.webm", 80, 160, 160, 25.0, "vp9"),
        ("cockatoo-1.mp4", 80, 256, 144, 20.0, "h264"),
        ("cockatoo-2.avi", 70, 224, 126, 20.0, "mpeg4"),
        ("cockatoo-3.mov", 72, 192, 108, 20.0, "mjpeg"),
        ("cockatoo-4.webm", 80, 144, 192, 20.0, "vp8"),
        ("plant-1.mp4", 36, 256, 192, 30.0, "h264"),
        ("puck-1.avi", 28, 200, 150, 25.0, "mjpeg"),
        ("puck-2.ogv", 34, 400, 304, 25.0, "theora"),
        ("throw-1.mov", 74, 160, 120, 30.0, "h264"),
        ("throw-2.ts", 74, 192, 144, 30.0, "h264"),
        ("tree-1.avi", 68, 176, 132, 15.0, "msmpeg4v3"),
    ];

    #[test]
    fn probes_every_codec_and_container() {
        for (name, frames, width, height, fps, codec) in CLIPS {
            let info = open(name).info().clone();
            let found = (info.frames, info.width, info.height, info.codec.as_str());
            assert_eq!(found, (frames, width, height, codec), "{name}");
            assert!((info.fps - fps).abs() < 1e-6, "{name}: {} frames a second", info.fps);
            // Containers round the last frame's length differently.
            let expected = frames as f64 / fps;
            assert!((info.seconds - expected).abs() < 0.11, "{name}: {} s, not {expected}", info.seconds);
        }
    }

    /// Each frame decoded alone, by seeking, is the one that decoding from the start gives.
    #[test]
    fn seeking_and_decoding_from_the_start_agree() {
        for (name, frames, ..) in CLIPS {
            let all = open(name).decode_intact().unwrap().unwrap_or_else(|| panic!("{name} is damaged"));
            assert_eq!(all.len(), frames);
            let mut video = open(name);
            for place in (0..frames).rev().step_by(3).chain([0, frames - 1]) {
                let alone = video.decode(&[place]).unwrap();
                assert!(alone[0] == all[place], "{name}: frame {place} differs");
            }
            let some = [frames / 2, 3, frames - 1, 3];
            let got = open(name).decode(&some).unwrap();
            assert!(got.iter().zip(some).all(|(g, p)| *g == all[p]), "{name}");
        }
    }

    /// Mean over all bytes of all frames, as the program `ffmpeg` gives it with `-sws_flags
    /// bicubic+accurate_rnd+bitexact -pix_fmt rgb24`.
    const MEANS: [(&str, f64); 4] = [
        ("bunny-1.mp4", 1238685772.0 / (66.0 * 320.0 * 180.0 * 3.0)),
        ("cockatoo-3.mov", 536562836.0 / (72.0 * 192.0 * 108.0 * 3.0)),
        ("cockatoo-4.webm", 659975137.0 / (80.0 * 144.0 * 192.0 * 3.0)),
        ("puck-1.avi", 425401092.0 / (28.0 * 200.0 * 150.0 * 3.0)),
    ];

    /// Bits were equal where this was written; other processors' inverse transforms round otherwise. A wrong matrix or
    /// range moves the mean by several levels.
    const MEAN_TOLERANCE: f64 = 0.1;

    #[test]
    fn colours_are_those_of_the_program_ffmpeg() {
        for (name, expected) in MEANS {
            let all = open(name).decode_intact().unwrap().unwrap();
            let bytes: usize = all.iter().map(|f| f.rgb.len()).sum();
            let sum: u64 = all.iter().flat_map(|f| &f.rgb).map(|b| u64::from(*b)).sum();
            let mean = sum as f64 / bytes as f64;
            assert!((mean - expected).abs() < MEAN_TOLERANCE, "{name}: {mean}, not {expected}");
        }
    }

    #[test]
    fn seeks_are_used_where_there_are_key_frames() {
        let video = open("plant-1.mp4");
        assert!(matches!(video.start_for(30), From::Key(k) if k > 0));
    }

    #[test]
    fn a_place_beyond_the_end_is_an_error() {
        let error = open("puck-1.avi").decode(&[2, 28]).unwrap_err();
        assert_eq!(error.reason(), "frame 28 was asked for, but there are 28");
    }

    #[test]
    fn damaged_files_are_errors_or_shorter_never_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        for (name, frames, ..) in CLIPS {
            let whole = std::fs::read(clips().join(name)).unwrap();
            let path = folder.path().join(name);
            for cut in [0, 100, 1500, whole.len() / 2, whole.len() - 700] {
                std::fs::write(&path, &whole[..cut]).unwrap();
                let Ok(mut video) = Video::open(&path, Deadline::after(TIMEOUT)) else { continue };
                assert!(video.info().frames <= frames + 1, "{name} cut at {cut}: {:?}", video.info());
                let _ = video.decode(&[0]);
            }
            let mut state = 1u64;
            let mut noisy = whole.clone();
            for byte in noisy.iter_mut().skip(whole.len() / 3) {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                if state >> 58 == 0 {
                    *byte = (state >> 40) as u8;
                }
            }
            std::fs::write(&path, &noisy).unwrap();
            if let Ok(mut video) = Video::open(&path, Deadline::after(TIMEOUT)) {
                let last = video.info().frames - 1;
                let _ = video.decode(&[0, last]);
                let _ = video.decode_intact();
            }
        }
    }

    #[test]
    fn errors_name_the_file_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let open = |p: &Path| Video::open(p, Deadline::after(TIMEOUT)).err().map(|e| e.to_string()).unwrap();
        assert!(open(&path).contains("a.mp4`: No such file"), "{}", open(&path));
        std::fs::write(&path, [7; 1000]).unwrap();
        assert!(open(&path).ends_with("a.mp4`: 1000 bytes, fewer than the 1024 that a video has"), "{}", open(&path));
        std::fs::write(&path, [7; 5000]).unwrap();
        assert!(open(&path).ends_with("a.mp4`: invalid data found when processing input"), "{}", open(&path));
        assert!(open(folder.path()).ends_with("not a file"));
    }

    #[test]
    fn a_deadline_ends_the_reading() {
        let error = Video::open(&clips().join("bunny-1.mp4"), Deadline::after(std::time::Duration::ZERO)).err();
        assert!(matches!(error.unwrap().fault, Fault::TimedOut(_)));
    }
}
