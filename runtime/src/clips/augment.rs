//! From a clip's frames to the numbers that the model sees: crop, resize, flip, normalise; as the published code does.
//!
//! One crop and one flip hold for the whole clip. The crop's area is a share of the picture's drawn from `crop`, its
//! aspect is log-uniform in `aspect`; ten tries, then the largest centre crop within the aspects. Bilinear with pixel
//! centres (`align_corners=False`) and no antialias. Without `crop` the short side is resized to `size` and the middle
//! is cut out; without `aspect` the crop is square.

use vjepac::ir::graph::VideoSpec;
use vjepac::ir::philox::Stream;

use super::order::below;
use crate::video::Frame;

/// ImageNet's mean of red, green, blue, for numbers in 0..1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// ImageNet's deviation of red, green, blue, for numbers in 0..1.
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Crops that are tried before the centre crop.
const TRIES: u32 = 10;

/// A part of a picture, and how it is laid on the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// First row.
    pub top: f64,
    /// First column.
    pub left: f64,
    /// Rows.
    pub height: f64,
    /// Columns.
    pub width: f64,
    /// Rows and columns beyond which nothing is read: (first row, first column, rows, columns).
    bounds: (usize, usize, usize, usize),
    /// Mirrored left to right.
    pub flip: bool,
}

impl Window {
    /// Whole pixels: what lies outside is never read.
    fn pixels(top: usize, left: usize, height: usize, width: usize) -> Window {
        let bounds = (top, left, height, width);
        Window { top: top as f64, left: left as f64, height: height as f64, width: width as f64, bounds, flip: false }
    }
}

/// The window of a clip: drawn by the stream's elements, or the middle.
pub fn window(spec: &VideoSpec, height: usize, width: usize, stream: &Stream) -> Window {
    let mut window = match spec.crop {
        Some(share) => random_crop(share, spec.aspect.unwrap_or((1.0, 1.0)), height, width, stream),
        None => middle(spec.size, height, width),
    };
    window.flip = spec.flip && stream.uniform(0) < 0.5;
    window
}

/// The square middle of a picture whose short side is resized to `size`.
fn middle(size: usize, height: usize, width: usize) -> Window {
    let short = height.min(width) as f64;
    // The resized picture has whole rows and columns; the middle starts at one of them.
    let resized = |n: usize| (n as f64 * size as f64 / short).floor().max(size as f64);
    let (rows, columns) = (resized(height), resized(width));
    let start = |n: f64| ((n - size as f64) / 2.0).round_ties_even();
    let (down, across) = (height as f64 / rows, width as f64 / columns);
    Window {
        top: start(rows) * down,
        left: start(columns) * across,
        height: size as f64 * down,
        width: size as f64 * across,
        bounds: (0, 0, height, width),
        flip: false,
    }
}

/// A random resized crop. Try k draws share and aspect from element 2k + 1, place from element 2k + 2.
fn random_crop(share: (f64, f64), aspect: (f64, f64), height: usize, width: usize, stream: &Stream) -> Window {
    let between = |u: f64, (low, high): (f64, f64)| low + (high - low) * u;
    let area = (height * width) as f64;
    let logs = (libm::log(aspect.0), libm::log(aspect.1));
    for k in 0..TRIES {
        let (a, b) = stream.pair(2 * k + 1, 0);
        let target = between(a, share) * area;
        let ratio = libm::exp(between(b, logs));
        let w = (target * ratio).sqrt().round_ties_even() as usize;
        let h = (target / ratio).sqrt().round_ties_even() as usize;
        if 0 < w && w <= width && 0 < h && h <= height {
            let (y, x) = stream.pair(2 * k + 2, 0);
            return Window::pixels(below(y, height - h + 1), below(x, width - w + 1), h, w);
        }
    }
    let shape = width as f64 / height as f64;
    let (w, h) = if shape < aspect.0 {
        (width, (width as f64 / aspect.0).round_ties_even() as usize)
    } else if shape > aspect.1 {
        ((height as f64 * aspect.1).round_ties_even() as usize, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Window::pixels((height - h) / 2, (width - w) / 2, h, w)
}

/// Adds `[size, size, 3]` normalised numbers of a frame's window to `out`.
pub fn render(frame: &Frame, window: &Window, size: usize, out: &mut Vec<f32>) {
    let (top, left, height, width) = window.bounds;
    let rows = taps(window.top - top as f64, window.height, height, size, false);
    let columns = taps(window.left - left as f64, window.width, width, size, window.flip);
    let row = |y: usize| {
        let start = ((top + y) * frame.width + left) * 3;
        &frame.rgb[start..start + width * 3]
    };
    let mean = MEAN.map(|m| m * 255.0);
    let deviation = DEVIATION.map(|d| d * 255.0);
    out.reserve(size * size * 3);
    for v in &rows {
        let (above, under) = (row(v.first), row(v.second));
        for h in &columns {
            let (a, b) = (h.first * 3, h.second * 3);
            for c in 0..3 {
                let pixel = |line: &[u8], at: usize| f32::from(line[at + c]);
                let high = pixel(above, a) * h.near + pixel(above, b) * h.far;
                let low = pixel(under, a) * h.near + pixel(under, b) * h.far;
                let value = high * v.near + low * v.far;
                out.push((value - mean[c]) / deviation[c]);
            }
        }
    }
}

/// The two pixels of a row (or column) that a result is mixed from, and their weights.
struct Tap {
    first: usize,
    second: usize,
    near: f32,
    far: f32,
}

/// Place i of the result lies at `start + (i + 1/2) * extent / size - 1/2`, not before pixel 0.
fn taps(start: f64, extent: f64, pixels: usize, size: usize, mirrored: bool) -> Vec<Tap> {
    // In f32, as the published code's resize computes it.
    let scale = (extent / size as f64) as f32;
    let tap = |i: usize| {
        let at = (scale * (i as f32 + 0.5) - 0.5 + start as f32).max(0.0);
        let first = (at as usize).min(pixels - 1);
        let second = (first + 1).min(pixels - 1);
        let far = (at - first as f32).clamp(0.0, 1.0);
        Tap { first, second, near: 1.0 - far, far }
    };
    let places = 0..size;
    if mirrored { places.rev().map(tap).collect() } else { places.map(tap).collect() }
}

#[cfg(test)]
mod tests {
    use vjepac::ir::graph::Pace;

    use super::*;

    /// Rounding of f32 products of numbers up to 255, divided by a deviation of at least 57.
    const TOLERANCE: f32 = 2e-5;

    /// A picture of 7 x 11 with a pattern that a transposed or shifted reading would change.
    fn picture() -> Frame {
        let at = |y: usize, x: usize, c: usize| ((y * 37 + x * 101 + c * 53 + ((y * x) % 13) * 7) % 256) as u8;
        let rgb = (0..7).flat_map(|y| (0..11).flat_map(move |x| (0..3).map(move |c| at(y, x, c)))).collect();
        Frame { width: 11, height: 7, rgb }
    }

    fn green(window: &Window, size: usize) -> Vec<f32> {
        let mut out = Vec::new();
        render(&picture(), window, size, &mut out);
        out.chunks(3).map(|p| p[1]).collect()
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            let e = (e - 255.0 * MEAN[1]) / (255.0 * DEVIATION[1]);
            assert!((f - e).abs() < TOLERANCE, "{f} is not {e}");
        }
    }

    /// torch 2.x: `F.interpolate(picture, size=(5, 5), mode="bilinear", align_corners=False)[0, 1]`.
    const SMALLER: [f32; 25] = [
        121.84, 132.08, 60.4, 193.52, 121.8399, 179.52, 170.36, 161.2, 97.44, 88.2801, 83.6, 44.8, 171.0, 132.2,
        104.8001, 141.28, 94.92, 169.4, 156.28, 149.52, 117.04, 89.52, 43.8, 209.48, 126.4399,
    ];

    /// The same of rows 1..4 and columns 2..5.
    const LARGER: [f32; 25] = [
        50.0, 93.2, 158.0, 69.2, 10.0, 70.4, 114.72, 181.2, 94.08, 36.0, 101.0, 147.0, 216.0, 131.4, 75.0, 131.6,
        117.84, 97.2, 107.28, 114.0, 152.0, 98.4, 18.0, 91.2, 140.0,
    ];

    #[test]
    fn resizing_is_that_of_pytorch() {
        assert_close(&green(&Window::pixels(0, 0, 7, 11), 5), &SMALLER);
        assert_close(&green(&Window::pixels(1, 2, 3, 3), 5), &LARGER);
        let mirrored = Window { flip: true, ..Window::pixels(0, 0, 7, 11) };
        let expected: Vec<f32> = SMALLER.chunks(5).flat_map(|r| r.iter().rev().copied()).collect();
        assert_close(&green(&mirrored, 5), &expected);
    }

    /// Row 2, column 3 of the picture is (163, 216, 13).
    #[test]
    fn colours_are_normalised_by_imagenet() {
        let mut out = Vec::new();
        render(&picture(), &Window::pixels(2, 3, 1, 1), 1, &mut out);
        for (f, e) in out.iter().zip([0.673_430_86, 1.745_798_2, -1.577_864_9f32]) {
            assert!((f - e).abs() < TOLERANCE, "{f} is not {e}");
        }
    }

    fn spec(crop: Option<(f64, f64)>, size: usize) -> VideoSpec {
        VideoSpec {
            name: "clip".into(),
            frames: 1,
            pace: Pace::Every(1),
            size,
            crop,
            aspect: Some((0.75, 1.35)),
            flip: true,
        }
    }

    #[test]
    fn crops_keep_area_and_aspect() {
        let (height, width) = (180, 320);
        let mut shares = Vec::new();
        let mut flips = 0;
        let n = 2000;
        for step in 1..=n {
            let stream = Stream::new(3, step, Some(0), "clips.crop", 0);
            let w = window(&spec(Some((0.3, 1.0)), 64), height, width, &stream);
            let (top, left, h, w_) = w.bounds;
            assert!(top + h <= height && left + w_ <= width);
            let (share, ratio) = ((h * w_) as f64 / (height * width) as f64, w_ as f64 / h as f64);
            // Whole pixels move both by a little.
            assert!((0.29..=1.0).contains(&share) && (0.73..1.37).contains(&ratio), "{share} {ratio}");
            shares.push(share);
            flips += usize::from(w.flip);
        }
        let mean = shares.iter().sum::<f64>() / n as f64;
        // Wide pictures refuse the largest crops, so the mean is below 0.65.
        assert!((0.45..0.65).contains(&mean), "{mean}");
        // Five standard errors.
        assert!((flips as f64 / n as f64 - 0.5).abs() < 0.056, "{flips}");
    }

    #[test]
    fn a_picture_no_crop_fits_in_gives_its_middle() {
        let stream = Stream::new(3, 1, Some(0), "clips.crop", 0);
        let w = window(&spec(Some((1.0, 1.0)), 64), 10, 1000, &stream);
        assert_eq!(w.bounds, (0, 493, 10, 14));
        let w = window(&spec(Some((1.0, 1.0)), 64), 1000, 10, &stream);
        assert_eq!(w.bounds, (493, 0, 13, 10));
    }

    #[test]
    fn without_a_crop_the_middle_of_the_short_side_is_taken() {
        let w = middle(90, 180, 320);
        assert_eq!((w.top, w.left, w.height, w.width), (0.0, 70.0, 180.0, 180.0));
        let stream = Stream::new(3, 1, Some(0), "clips.crop", 0);
        let mut out = Vec::new();
        render(&picture(), &window(&spec(None, 7), 7, 11, &stream), 7, &mut out);
        assert_eq!(out.len(), 7 * 7 * 3);
    }
}
