//! QR codes (ISO/IEC 18004) of short URLs, as SVG and PNG.

use qrcode::{Color, EcLevel, QrCode};

/// How much of a code may be dirty or hidden before it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Correction {
    /// About 7 %.
    Low,
    /// About 15 %.
    #[default]
    Medium,
    /// About 25 %.
    Quartile,
    /// About 30 %: for a logo on top.
    High,
}

/// How a code is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawing {
    /// The length of a side in pixels; a PNG that would show a module in less than 2 pixels, which readers miss, is larger.
    pub size: u32,
    /// The quiet zone around it in modules; readers are promised 4.
    pub margin: u32,
}

/// The fewest pixels of a module: readers miss single ones.
const LEAST_SCALE: u32 = 2;
/// The smallest side of an image, in pixels.
pub const MIN_QR_SIZE: u32 = 64;
/// The largest side of an image, in pixels.
pub const MAX_QR_SIZE: u32 = 2048;
/// The widest quiet zone, in modules.
pub const MAX_QR_MARGIN: u32 = 16;

impl Default for Drawing {
    fn default() -> Self {
        Self { size: 512, margin: 4 }
    }
}

/// A code as dark and light modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qr {
    /// Row by row; `true` is dark.
    modules: Vec<bool>,
    /// Modules of a side.
    width: u32,
}

impl Qr {
    /// Of a text; `None` when it is longer than the largest code holds (1,273 bytes at the highest correction).
    pub fn new(text: &str, correction: Correction) -> Option<Self> {
        let level = match correction {
            Correction::Low => EcLevel::L,
            Correction::Medium => EcLevel::M,
            Correction::Quartile => EcLevel::Q,
            Correction::High => EcLevel::H,
        };
        let code = QrCode::with_error_correction_level(text, level).ok()?;
        let width = u32::try_from(code.width()).ok()?;
        Some(Self { modules: code.into_colors().into_iter().map(|color| color == Color::Dark).collect(), width })
    }

    /// The row of a module.
    fn row(&self, y: u32) -> &[bool] {
        let width = self.width as usize;
        &self.modules[y as usize * width..][..width]
    }

    /// As an SVG: one path of dark modules on a white square, black on white whatever the page's colours.
    pub fn svg(&self, drawing: Drawing) -> String {
        let Drawing { size, margin } = drawing;
        let side = self.width + 2 * margin;
        let mut path = String::with_capacity(self.modules.len() * 4);
        for y in 0..self.width {
            let mut x = margin;
            for run in self.row(y).chunk_by(|a, b| a == b) {
                let length = u32::try_from(run.len()).unwrap_or(0);
                if run[0] {
                    path.push_str(&format!("M{x} {}h{length}v1h-{length}z", y + margin));
                }
                x += length;
            }
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{size}\" height=\"{size}\" viewBox=\"0 0 {side} {side}\" \
             shape-rendering=\"crispEdges\" role=\"img\" aria-label=\"QR code\">\
             <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"{path}\"/></svg>\n"
        )
    }

    /// As a PNG of one bit a pixel. Every module is the same whole number of pixels wide; what is left of the size is added to
    /// the quiet zone.
    pub fn png(&self, drawing: Drawing) -> Result<Vec<u8>, png::EncodingError> {
        let modules = self.width + 2 * drawing.margin;
        let side = drawing.size.max(LEAST_SCALE * modules);
        let scale = side / modules;
        let start = (side - self.width * scale) / 2;
        let row_bytes = side.div_ceil(8) as usize;
        let mut pixels = Vec::with_capacity(row_bytes * side as usize);
        for y in 0..side {
            let row = y.checked_sub(start).map(|y| y / scale).filter(|y| *y < self.width).map(|y| self.row(y));
            let begins = pixels.len();
            // One is white.
            pixels.resize(begins + row_bytes, 0xff);
            for (x, _) in (0_u32..).zip(row.unwrap_or_default()).filter(|(_, is_dark)| **is_dark) {
                for pixel in start + x * scale..start + (x + 1) * scale {
                    pixels[begins + pixel as usize / 8] &= !(0x80 >> (pixel % 8));
                }
            }
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder.write_header()?.write_image_data(&pixels)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORRECTIONS: [Correction; 4] = [Correction::Low, Correction::Medium, Correction::Quartile, Correction::High];

    /// What a reader sees in a picture of grey values.
    fn read(width: usize, height: usize, grey: impl FnMut(usize, usize) -> u8) -> String {
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, grey);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "one code in the picture");
        grids[0].decode().unwrap().1
    }

    fn read_png(bytes: &[u8]) -> (u32, String) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.color_type), (info.height, png::ColorType::Grayscale));
        let width = info.width as usize;
        (info.width, read(width, width, |x, y| pixels[y * width + x]))
    }

    #[test]
    fn a_reader_reads_what_was_written() {
        let host = format!("https://{}.example/{}", "h".repeat(245), "c".repeat(64));
        for text in ["https://go.example.com/7gQsw2", "http://127.0.0.1:8080/a", host.as_str()] {
            for correction in CORRECTIONS {
                let qr = Qr::new(text, correction).unwrap();
                for (size, margin) in [(64, 4), (301, 1)] {
                    let (side, got) = read_png(&qr.png(Drawing { size, margin }).unwrap());
                    assert_eq!(got, text, "{correction:?} {size} {margin}");
                    assert_eq!(side, size.max(2 * (qr.width + 2 * margin)));
                }
            }
        }
    }

    /// The SVG shows the same modules: its path, drawn with 4 pixels a module, is read as well.
    #[test]
    fn the_svg_is_the_same_picture() {
        let text = "https://go.example.com/spring-sale";
        for (correction, margin) in CORRECTIONS.into_iter().zip([4, 2, 16, 0]) {
            let qr = Qr::new(text, correction).unwrap();
            let svg = qr.svg(Drawing { size: 300, margin });
            let side = (qr.width + 2 * margin) as usize;
            assert!(svg.starts_with("<svg ") && svg.contains(&format!("viewBox=\"0 0 {side} {side}\"")), "{svg}");
            let path = svg.rsplit_once(" d=\"").unwrap().1.split_once('"').unwrap().0;
            let mut dark = vec![false; side * side];
            for run in path.split_terminator('z') {
                let (at, shape) = run.strip_prefix('M').unwrap().split_once('h').unwrap();
                let (x, y) = at.split_once(' ').unwrap();
                let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
                let length: usize = shape.split_once('v').unwrap().0.parse().unwrap();
                assert_eq!(shape, format!("{length}v1h-{length}"));
                dark[y * side + x..][..length].fill(true);
            }
            // A reader needs some quiet zone, which the picture's surroundings give.
            let (scale, zone) = (4, 16);
            let pixels = side * scale + 2 * zone;
            let got = read(pixels, pixels, |x, y| {
                let inside = |v: usize| v.checked_sub(zone).map(|v| v / scale).filter(|v| *v < side);
                match (inside(x), inside(y)) {
                    (Some(x), Some(y)) if dark[y * side + x] => 0,
                    _ => 255,
                }
            });
            assert_eq!(got, text);
        }
    }

    #[test]
    fn what_no_code_holds_is_none() {
        assert!(Qr::new(&"x".repeat(1273), Correction::High).is_some());
        assert!(Qr::new(&"x".repeat(1274), Correction::High).is_none());
    }
}
