//! File -> frames. A frame is named by its place in presentation order, and the same frame comes back whatever else was
//! asked for: `open` reads the file's packets once for a table of time stamps, `decode` starts at the key frame before
//! the first wanted frame and tells frames apart by their stamps. Files without usable stamps (AVI with B frames) are
//! decoded from the start and counted.
//!
//! Relies on the system's FFmpeg libraries, whose own log is silenced. A damaged file is an error with its path, and a
//! deadline is looked at between packets and inside blocking reads. Rotation marks are not applied: frames come as they
//! are stored.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

mod decode;
mod frame;
mod probe;

pub use decode::Video;
pub use frame::Frame;
pub use probe::Info;

/// How long one file may take, unless a caller says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Smaller files are taken for failed downloads (as in the published code).
pub const MIN_BYTES: u64 = 1 << 10;

/// Larger files are not read (as in the published code).
pub const MAX_BYTES: u64 = 1_000_000_000;

/// Frames, size, rate and codec of a file.
pub fn probe(path: &Path) -> Result<Info, VideoError> {
    Ok(Video::open(path, Deadline::after(TIMEOUT))?.info().clone())
}

/// The frames of these places in presentation order, in the order asked for; a place may be asked for twice.
pub fn decode(path: &Path, wanted: &[usize]) -> Result<Vec<Arc<Frame>>, VideoError> {
    Video::open(path, Deadline::after(TIMEOUT))?.decode(wanted)
}

/// The only frame of a picture file, or the first of a video.
pub fn picture(path: &Path, deadline: Deadline) -> Result<Arc<Frame>, VideoError> {
    decode::first_frame(path, deadline)
}

/// A moment after which reading a file fails.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Option<Instant>,
    timeout: Duration,
}

impl Deadline {
    /// So long from now.
    pub fn after(timeout: Duration) -> Deadline {
        Deadline { at: Instant::now().checked_add(timeout), timeout }
    }

    /// It is past.
    pub fn passed(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }
}

/// Why a file gave no frames.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub fault: Fault,
}

/// What went wrong with a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Not there, or not readable; the system's words.
    Missing(String),
    /// Below [`MIN_BYTES`].
    TooSmall(u64),
    /// Above [`MAX_BYTES`].
    TooLarge(u64),
    /// No format or codec fits, or the file is damaged at its start; FFmpeg's words.
    Unreadable(String),
    /// No stream of pictures in it.
    NoPictures,
    /// A wanted frame could not be decoded.
    Damaged {
        /// The wanted frame.
        frame: usize,
        /// How many the file announces.
        frames: usize,
    },
    /// A wanted frame lies beyond the end.
    Beyond {
        /// The wanted frame.
        frame: usize,
        /// How many there are.
        frames: usize,
    },
    /// The picture size changes within a clip.
    SizeChanges,
    /// It took longer than allowed.
    TimedOut(Duration),
}

impl VideoError {
    /// A fault of this file.
    pub fn new(path: &Path, fault: Fault) -> VideoError {
        VideoError { path: path.to_path_buf(), fault }
    }

    /// The reason without the path.
    pub fn reason(&self) -> String {
        self.fault.to_string()
    }
}

impl fmt::Display for VideoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read `{}`: {}", self.path.display(), self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing(why) | Fault::Unreadable(why) => f.write_str(why),
            Fault::TooSmall(n) => write!(f, "{n} bytes, fewer than the {MIN_BYTES} that a video has"),
            Fault::TooLarge(n) => write!(f, "{n} bytes, more than the {MAX_BYTES} that are read; cut it"),
            Fault::NoPictures => f.write_str("no video stream in it"),
            Fault::Damaged { frame, frames } => write!(f, "frame {frame} of {frames} cannot be decoded"),
            Fault::Beyond { frame, frames } => write!(f, "frame {frame} was asked for, but there are {frames}"),
            Fault::SizeChanges => f.write_str("the picture size changes within the clip"),
            Fault::TimedOut(limit) => write!(f, "reading took longer than {} s", limit.as_secs_f64()),
        }
    }
}

impl std::error::Error for VideoError {}

/// Readies FFmpeg once and turns its log off: what it would print about a damaged file comes as an error instead.
fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Registers error texts; with FFmpeg 4 and older also formats. It has no failure that could be handled.
        let _ = ffmpeg_next::init();
        ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
    });
}
