//! Which frames of a file make the clip: the published rule.
//!
//! A clip spans `every * frames` source frames. In a longer file the span ends at a frame drawn uniformly from
//! [span, length), and the frames are those of `linspace(end - span, end, frames)`, cut to `end - 1` and truncated. With
//! 16 frames and `every = 4` these are 0, 4, 8, 12, 17, 21, ... 63 from the start of the span: not a stride of 4.
//! A file that is not longer gives `linspace(0, length, length / every)` and repeats its last frame.

use super::order::below;

/// Places of the clip's frames in a file of `length` frames. `uniform` in [0, 1) draws the span.
pub fn frame_places(length: usize, frames: usize, every: usize, uniform: f64) -> Vec<usize> {
    let span = frames * every;
    if length > span {
        // The upper end is excluded: the last frame of the file ends no span.
        let end = span + below(uniform, length - span);
        let start = end - span;
        return linspace(start, end, frames).map(|x| (x.clamp(start as f64, (end - 1) as f64)) as usize).collect();
    }
    let last = length.saturating_sub(1);
    let there = (length / every.max(1)).min(frames);
    let mut places: Vec<usize> = linspace(0, length, there).map(|x| (x as usize).min(last)).collect();
    places.resize(frames, last);
    places
}

/// `count` numbers from `start` to `end` as numpy computes them: the last one is `end` itself.
fn linspace(start: usize, end: usize, count: usize) -> impl Iterator<Item = f64> {
    let (start, end) = (start as f64, end as f64);
    let step = (end - start) / (count.max(2) - 1) as f64;
    (0..count).map(move |i| if i > 0 && i + 1 == count { end } else { i as f64 * step + start })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From start 0, as the published code gives them with numpy.
    const RELATIVE: [usize; 16] = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63];

    #[test]
    fn long_files_follow_the_published_rule() {
        for (uniform, start) in [(0.0, 0), (0.5, 118), (0.999_999, 235)] {
            let expected: Vec<usize> = RELATIVE.iter().map(|r| r + start).collect();
            assert_eq!(frame_places(300, 16, 4, uniform), expected);
        }
        assert_eq!(frame_places(65, 16, 4, 0.9), RELATIVE);
    }

    #[test]
    fn short_files_repeat_their_last_frame() {
        // numpy: linspace(0, 40, 10), then 39s.
        assert_eq!(frame_places(40, 16, 4, 0.5), [0, 4, 8, 13, 17, 22, 26, 31, 35, 39, 39, 39, 39, 39, 39, 39]);
        assert_eq!(frame_places(64, 16, 4, 0.5), RELATIVE);
        assert_eq!(frame_places(5, 4, 4, 0.5), [0, 4, 4, 4]);
        assert_eq!(frame_places(2, 4, 4, 0.5), [1, 1, 1, 1]);
        assert_eq!(frame_places(1, 1, 1, 0.5), [0]);
    }

    #[test]
    fn places_are_in_the_file_and_never_fall() {
        for length in 1..200 {
            for (frames, every) in [(16, 4), (8, 4), (8, 1), (1, 1), (3, 7)] {
                for uniform in [0.0, 0.37, 0.999] {
                    let places = frame_places(length, frames, every, uniform);
                    assert_eq!(places.len(), frames);
                    assert!(places.iter().all(|p| *p < length), "{length} {frames} {every}: {places:?}");
                    assert!(places.windows(2).all(|w| w[0] <= w[1]));
                }
            }
        }
    }
}
