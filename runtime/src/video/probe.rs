//! Opens a file and makes the table of its frames from its packets, without decoding.
//!
//! A packet is a frame unless it is marked to be dropped (edit lists) or holds a hidden reference picture (VP8). The
//! table is used only if every such packet has a time stamp of its own; else the frames have to be counted by decoding.
//! Costs one read of the file.

use std::path::Path;

use ffmpeg_next::codec::Id;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, ffi, format, media};

use super::{Deadline, Fault, MAX_BYTES, MIN_BYTES, VideoError, start};

/// What is known of a video.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// Frames that can be asked for.
    pub frames: usize,
    /// Frames a second, on average.
    pub fps: f64,
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Length.
    pub seconds: f64,
    /// FFmpeg's name of the codec, such as `h264`.
    pub codec: String,
}

/// Time stamps of a stream's frames in presentation order, and where decoding can start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Timeline {
    /// Ascending, no two alike.
    pub(super) stamps: Vec<i64>,
    /// Stamps of key frames, ascending.
    pub(super) keys: Vec<i64>,
}

/// An opened file and its stream of pictures.
pub(super) struct Source {
    pub(super) input: Input,
    pub(super) stream: usize,
}

/// Refuses what is not a file of a sensible size.
pub(super) fn look_at(path: &Path, least: u64) -> Result<(), VideoError> {
    let fault = match std::fs::metadata(path) {
        Err(e) => Fault::Missing(e.to_string()),
        Ok(m) if !m.is_file() => Fault::Missing("not a file".into()),
        Ok(m) if m.len() < least => Fault::TooSmall(m.len()),
        Ok(m) if m.len() > MAX_BYTES => Fault::TooLarge(m.len()),
        Ok(_) => return Ok(()),
    };
    Err(VideoError::new(path, fault))
}

/// Opens a video.
pub(super) fn open(path: &Path, deadline: Deadline) -> Result<Source, VideoError> {
    look_at(path, MIN_BYTES)?;
    open_any(path, deadline)
}

/// Opens a video or a picture of any size.
pub(super) fn open_any(path: &Path, deadline: Deadline) -> Result<Source, VideoError> {
    start();
    let fail = |fault| Err(VideoError::new(path, fault));
    let Some(name) = path.to_str() else {
        return fail(Fault::Unreadable("its name is not UTF-8; rename it".into()));
    };
    if name.contains('\0') {
        return fail(Fault::Missing("its name holds a zero byte".into()));
    }
    let mut options = Dictionary::new();
    options.set("pattern_type", "none"); // a `%` in a picture's name is a `%`
    // With the protocol written out, a colon in a path is a colon.
    let url = format!("file:{name}");
    match format::input_with_interrupt_and_dictionary(Path::new(&url), move || deadline.passed(), options) {
        Err(_) if deadline.passed() => fail(Fault::TimedOut(deadline.timeout)),
        Err(e) => fail(Fault::Unreadable(words(e))),
        Ok(input) => match input.streams().best(media::Type::Video).map(|s| s.index()) {
            None => fail(Fault::NoPictures),
            Some(stream) => Ok(Source { input, stream }),
        },
    }
}

/// Reads every packet. None if the stamps do not tell the frames apart.
pub(super) fn timeline(source: &mut Source, path: &Path, deadline: Deadline) -> Result<Option<Timeline>, VideoError> {
    let vp8 = codec_id(source) == Id::VP8;
    let mut packets = Vec::new();
    let mut packet = Packet::empty();
    // A file cut short ends here with what could be read before.
    while read(&mut packet, source, path, deadline)? {
        if packet.is_corrupt() || is_dropped(&packet) || (vp8 && is_hidden(&packet)) {
            continue;
        }
        match packet.pts() {
            None => return Ok(None),
            Some(pts) => packets.push((pts, packet.is_key())),
        }
    }
    packets.sort_unstable();
    if packets.windows(2).any(|w| w[0].0 == w[1].0) {
        return Ok(None);
    }
    let keys = packets.iter().filter(|p| p.1).map(|p| p.0).collect();
    Ok(Some(Timeline { stamps: packets.into_iter().map(|p| p.0).collect(), keys }))
}

/// Reads the next packet of the stream of pictures; false at the end, and where the file is cut short.
pub(super) fn read(
    packet: &mut Packet,
    source: &mut Source,
    path: &Path,
    deadline: Deadline,
) -> Result<bool, VideoError> {
    loop {
        let outcome = packet.read(&mut source.input);
        if deadline.passed() {
            return Err(VideoError::new(path, Fault::TimedOut(deadline.timeout)));
        }
        match outcome {
            Ok(()) if packet.stream() == source.stream => return Ok(true),
            Ok(()) => {}
            Err(_) => return Ok(false),
        }
    }
}

/// Size, rate, length and codec of the stream; `frames` as counted.
pub(super) fn info(source: &Source, timeline: Option<&Timeline>, frames: usize) -> Info {
    let stream = source.input.stream(source.stream).expect("the stream was found when the file was opened");
    let rate = [stream.avg_frame_rate(), stream.rate()].into_iter().find_map(positive);
    let spanned = timeline.and_then(|t| {
        let (first, last) = (t.stamps.first()?, t.stamps.last()?);
        let ticks = (last - first) as f64 * frames as f64 / (frames as f64 - 1.0).max(1.0);
        Some(ticks * positive(stream.time_base())?).filter(|s| *s > 0.0)
    });
    let told = match stream.duration() {
        ticks if ticks > 0 => positive(stream.time_base()).map(|base| ticks as f64 * base),
        _ => None,
    };
    let seconds = spanned.or(told).or_else(|| rate.map(|r| frames as f64 / r)).unwrap_or(0.0);
    let fps = match rate {
        Some(rate) => rate,
        None if seconds > 0.0 => frames as f64 / seconds,
        None => 0.0,
    };
    // SAFETY: the parameters of a live stream; plain fields are read.
    let (width, height) = unsafe {
        let parameters = stream.parameters();
        ((*parameters.as_ptr()).width.max(0) as usize, (*parameters.as_ptr()).height.max(0) as usize)
    };
    Info { frames, fps, width, height, seconds, codec: codec_id(source).name().to_string() }
}

/// FFmpeg's words for an error.
pub(super) fn words(error: Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().collect::<String>() + letters.as_str(),
        None => "unreadable".into(),
    }
}

fn codec_id(source: &Source) -> Id {
    source.input.stream(source.stream).map_or(Id::None, |s| s.parameters().id())
}

fn positive(r: Rational) -> Option<f64> {
    (r.numerator() > 0 && r.denominator() > 0).then(|| f64::from(r.numerator()) / f64::from(r.denominator()))
}

/// Marked by the container as decoded but not shown.
fn is_dropped(packet: &Packet) -> bool {
    use ffmpeg_next::packet::Ref;
    // SAFETY: the pointer of a live packet; a plain field is read.
    unsafe { (*packet.as_ptr()).flags & ffi::AV_PKT_FLAG_DISCARD != 0 }
}

/// A VP8 picture that is only referred to: bit 4 of its first byte is 0 (RFC 6386, section 9.1).
fn is_hidden(packet: &Packet) -> bool {
    packet.data().is_none_or(|d| d.first().is_none_or(|b| b & 0x10 == 0))
}
