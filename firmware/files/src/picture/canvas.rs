//! An RGB buffer to draw on: shapes and letters by embedded-graphics, pixels by hand.

use std::convert::Infallible;
use std::path::Path;

use embedded_graphics::Pixel;
pub use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::MonoTextStyle;
pub use embedded_graphics::mono_font::iso_8859_1::{FONT_6X13, FONT_7X13, FONT_7X13_BOLD, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Point, RgbColor, Size};
use embedded_graphics::primitives::Rectangle;
pub use embedded_graphics::text::Alignment;
use embedded_graphics::text::{Baseline, Text, TextStyleBuilder};

use super::{PictureError, encode};
use crate::private_file::write_private;

/// Colour of a pixel: red, green, blue.
pub type Rgb = [u8; 3];

/// The image under work, rows from the top.
pub struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    /// All of one colour.
    pub fn new(width: usize, height: usize, colour: Rgb) -> Self {
        Self { width, height, rgb: colour.repeat(width * height) }
    }

    /// The image as a PNG.
    ///
    /// # Errors
    /// Where the encoder refuses: an image without a pixel.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        encode(&self.rgb, self.width, self.height, None)
    }

    /// The image as a PNG with a text chunk: keyword and text.
    pub(super) fn to_png_with(&self, text: (String, String)) -> Result<Vec<u8>, PictureError> {
        encode(&self.rgb, self.width, self.height, Some(text))
    }

    /// Writes the image to `path`, for its owner alone (mode 0600).
    ///
    /// # Errors
    /// As [`to_png`](Self::to_png), and where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PictureError> {
        Ok(write_private(path, &self.to_png()?)?)
    }

    /// The bytes, three a pixel, rows from the top.
    #[cfg(test)]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Width and height, pixels.
    pub fn size(&self) -> (i32, i32) {
        (self.width as i32, self.height as i32)
    }

    /// Sets one pixel; outside the image nothing happens.
    pub fn set(&mut self, x: i32, y: i32, colour: Rgb) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        if x < self.width && y < self.height {
            let at = (y * self.width + x) * 3;
            self.rgb[at..at + 3].copy_from_slice(&colour);
        }
    }

    /// A filled rectangle; a side of no length draws nothing.
    pub fn fill(&mut self, x: i32, y: i32, width: i32, height: i32, colour: Rgb) {
        for row in y..y + height {
            for column in x..x + width {
                self.set(column, row, colour);
            }
        }
    }

    /// A straight line, `thick` pixels wide.
    pub fn line(&mut self, from: (i32, i32), to: (i32, i32), thick: i32, colour: Rgb) {
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
        for step in 0..=steps {
            let along = |a: i32, b: i32| a + ((b - a) as f64 * f64::from(step) / f64::from(steps)).round() as i32;
            self.fill(along(from.0, to.0) - thick / 2, along(from.1, to.1) - thick / 2, thick, thick, colour);
        }
    }

    /// The outline of a rectangle, one pixel wide, inside it.
    pub fn frame(&mut self, x: i32, y: i32, width: i32, height: i32, colour: Rgb) {
        self.fill(x, y, width, 1, colour);
        self.fill(x, y + height - 1, width, 1, colour);
        self.fill(x, y, 1, height, colour);
        self.fill(x + width - 1, y, 1, height, colour);
    }

    /// One line of text; `(x, y)` is its left, middle or right end, at half its height.
    pub fn text(&mut self, text: &str, x: i32, y: i32, style: &TextLook) {
        let letters = MonoTextStyle::new(style.font, to_rgb888(style.colour));
        let placing = TextStyleBuilder::new().alignment(style.align).baseline(Baseline::Middle).build();
        let Ok(_) = Text::with_text_style(text, Point::new(x, y), letters, placing).draw(self);
    }

    /// One line of text read from bottom to top, its middle at `(x, y)`: the name of an upright axis.
    pub fn text_upwards(&mut self, text: &str, x: i32, y: i32, style: &TextLook) {
        let width = text_width(text, style.font);
        let height = style.font.character_size.height as i32;
        let mut upright = Self::new(width as usize, height as usize, BLANK);
        let look = TextLook { align: Alignment::Left, colour: INK, ..*style };
        upright.text(text, 0, height / 2, &look);
        for row in 0..height {
            for column in 0..width {
                let at = (row * width + column) as usize * 3;
                if upright.rgb[at..at + 3] == INK {
                    self.set(x - height / 2 + row, y + width / 2 - column, style.colour);
                }
            }
        }
    }
}

// What `text_upwards` draws with before it turns the letters: any two colours that differ.
const BLANK: Rgb = [0, 0, 0];
const INK: Rgb = [255, 255, 255];

/// Font, colour and anchor of a text.
#[derive(Clone, Copy)]
pub struct TextLook {
    /// The font; letters outside ISO 8859-1 show as `?`.
    pub font: &'static MonoFont<'static>,
    /// The letters' colour.
    pub colour: Rgb,
    /// Which end of the line stands at the given place.
    pub align: Alignment,
}

/// A look in three words.
pub fn look(font: &'static MonoFont<'static>, colour: Rgb, align: Alignment) -> TextLook {
    TextLook { font, colour, align }
}

/// Width of a line, pixels.
pub fn text_width(text: &str, font: &MonoFont<'_>) -> i32 {
    (text.chars().count() as u32 * (font.character_size.width + font.character_spacing)) as i32
}

/// `text` where it is at most `width` pixels wide, else as much of it as is with three dots behind (the fonts have no ellipsis).
pub fn fitted(text: &str, width: i32, font: &MonoFont<'_>) -> String {
    if text_width(text, font) <= width {
        return text.to_string();
    }
    let letters = (width - text_width("...", font)).max(0) / text_width("x", font);
    let head: String = text.chars().take(letters as usize).collect();
    format!("{}...", head.trim_end())
}

fn to_rgb888([r, g, b]: Rgb) -> Rgb888 {
    Rgb888::new(r, g, b)
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            self.set(x, y, [colour.r(), colour.g(), colour.b()]);
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, colour: Rgb888) -> Result<(), Infallible> {
        let (Point { x, y }, size) = (area.top_left, area.size);
        let rgb = [colour.r(), colour.g(), colour.b()];
        self.fill(x, y, size.width as i32, size.height as i32, rgb);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::mono_font::iso_8859_1::FONT_7X13;

    #[test]
    fn what_is_too_wide_ends_in_dots() {
        let fitted = |width: i32| fitted("glass, breaking", width, &FONT_7X13);
        assert_eq!((fitted(105), fitted(104)), ("glass, breaking".into(), "glass, brea...".into()));
        assert_eq!((fitted(70), fitted(0)), ("glass,...".into(), "...".into()), "no space before the dots");
        for width in 21..120 {
            assert!(text_width(&fitted(width), &FONT_7X13) <= width, "{width}");
        }
    }

    #[test]
    fn drawing_outside_the_image_does_nothing() {
        let mut canvas = Canvas::new(4, 4, BLANK);
        canvas.set(-1, 0, INK);
        canvas.set(0, 4, INK);
        canvas.fill(-10, -10, 5, 5, INK);
        let look = TextLook { font: &FONT_7X13, colour: INK, align: Alignment::Left };
        canvas.text("away", 40, 40, &look);
        assert_eq!(canvas.rgb(), [0; 48]);
        canvas.fill(2, 2, 10, 10, INK);
        assert_eq!(canvas.rgb().iter().filter(|&&b| b == 255).count(), 12);
    }
}
