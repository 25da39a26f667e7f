//! A picture in memory: 8-bit RGB, rows from the top, pixels from the left, channels together.

/// An owned picture: `pixels` is `[height, width, 3]`, red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, rgb: [u8; 3]) -> Image {
        Image { width, height, pixels: rgb.repeat(width * height) }
    }

    /// The same picture, borrowed.
    pub fn view(&self) -> ImageRef<'_> {
        ImageRef { width: self.width, height: self.height, pixels: &self.pixels }
    }
}

/// What colours a network sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Luma alone, as Pillow's `convert("L")` gives it.
    Grey,
}

impl Colour {
    /// The colours of a network that takes so many channels, if pictures can have so many.
    pub fn of_channels(channels: usize) -> Option<Colour> {
        match channels {
            1 => Some(Colour::Grey),
            3 => Some(Colour::Rgb),
            _ => None,
        }
    }

    /// The number of channels.
    pub fn channels(self) -> usize {
        match self {
            Colour::Rgb => 3,
            Colour::Grey => 1,
        }
    }
}

/// A pixel's luma: ITU-R 601-2 in 16 bits of fraction, rounded, as in Pillow's `Convert.c`. A grey pixel's is its
/// own value.
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
}

/// A borrowed picture, laid out as [`Image`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRef<'a> {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub pixels: &'a [u8],
}

impl<'a> ImageRef<'a> {
    /// A copy that owns its pixels.
    pub fn to_image(self) -> Image {
        Image { width: self.width, height: self.height, pixels: self.pixels.to_vec() }
    }

    /// The same picture without colour: each pixel's luma, three times.
    pub fn to_grey(self) -> Image {
        let (pixels, _) = self.pixels.as_chunks::<3>();
        let pixels = pixels.iter().flat_map(|&rgb| [luma(rgb); 3]).collect();
        Image { width: self.width, height: self.height, pixels }
    }

    /// The bytes of row `y` from column `x` on, `columns` pixels of it.
    ///
    /// # Panics
    /// When the piece is not inside the picture.
    pub fn row(self, y: usize, x: usize, columns: usize) -> &'a [u8] {
        assert!(y < self.height && x + columns <= self.width, "the piece lies inside the picture");
        let start = 3 * (y * self.width + x);
        &self.pixels[start..start + 3 * columns]
    }
}

/// A rectangle of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first column.
    pub x: usize,
    /// The first row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}
