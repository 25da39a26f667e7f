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
