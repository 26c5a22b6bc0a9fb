//! A decoded picture, and the conversion from what decoders give to RGB.
//!
//! The conversion is swscale's bicubic one with accurate rounding in its bit-exact form, so that pixels are the same on
//! every processor; matrix and range follow the stream's marks, BT.601 and limited range where it has none.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::{ffi, frame};

/// A picture: `rgb` is [height, width, 3].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green, blue of every pixel, row by row, no padding.
    pub rgb: Vec<u8>,
}

/// Converts decoded pictures to RGB and keeps swscale's tables while size, format and colours stay the same.
#[derive(Default)]
pub(super) struct Converter {
    scaler: Option<(Look, Context)>,
    output: Option<frame::Video>,
}

/// What the tables of a conversion depend on.
#[derive(Clone, Copy, PartialEq)]
struct Look {
    format: Pixel,
    width: u32,
    height: u32,
    space: i32,
    full_range: bool,
}

impl Converter {
    /// The picture as RGB, or none if swscale cannot read its format.
    pub(super) fn rgb(&mut self, picture: &frame::Video) -> Option<Frame> {
        let look = look(picture);
        if look.width == 0 || look.height == 0 {
            return None;
        }
        if self.scaler.as_ref().is_none_or(|(l, _)| *l != look) {
            self.scaler = Some((look, scaler(look)?));
            self.output = None;
        }
        let (_, scaler) = self.scaler.as_mut()?;
        let output = self.output.get_or_insert_with(|| frame::Video::new(Pixel::RGB24, look.width, look.height));
        scaler.run(picture, output).ok()?;

        let (width, height) = (look.width as usize, look.height as usize);
        let (row, stride) = (3 * width, output.stride(0));
        let data = output.data(0);
        let mut rgb = Vec::with_capacity(row * height);
        for y in 0..height {
            rgb.extend_from_slice(&data[y * stride..y * stride + row]);
        }
        Some(Frame { width, height, rgb })
    }
}

fn look(picture: &frame::Video) -> Look {
    // SAFETY: the pointer of a live frame; plain fields are read.
    let (space, range) = unsafe { ((*picture.as_ptr()).colorspace as i32, (*picture.as_ptr()).color_range) };
    let format = picture.format();
    // The formats called J hold the full range by their name.
    let full =
        matches!(format, Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P | Pixel::YUVJ440P | Pixel::YUVJ411P);
    let full_range = full || range == ffi::AVColorRange::AVCOL_RANGE_JPEG;
    Look { format, width: picture.width(), height: picture.height(), space, full_range }
}

fn scaler(look: Look) -> Option<Context> {
    let flags = Flags::BICUBIC | Flags::ACCURATE_RND | Flags::BITEXACT;
    let Look { format, width, height, .. } = look;
    if format == Pixel::None {
        return None;
    }
    let mut context = Context::get(format, width, height, Pixel::RGB24, width, height, flags).ok()?;
    // SAFETY: both tables are static arrays of four numbers; the context is live. Formats without a matrix (RGB, grey)
    // answer with an error and keep their defaults, which is right for them.
    unsafe {
        let table = ffi::sws_getCoefficients(look.space);
        let rgb = ffi::sws_getCoefficients(ffi::SWS_CS_DEFAULT);
        let (brightness, contrast, saturation) = (0, 1 << 16, 1 << 16);
        let full = i32::from(look.full_range);
        ffi::sws_setColorspaceDetails(context.as_mut_ptr(), table, full, rgb, 1, brightness, contrast, saturation);
    }
    Some(context)
}
