//! A contact sheet: many pictures on one, each with a caption.

use font8x8::UnicodeFonts;

use crate::picture::{Image, ImageRef};

/// Small pictures are shown enlarged, pixel by pixel, to at least this many columns.
const LEAST_COLUMNS: usize = 96;
/// Rows and columns of a letter.
const LETTER: usize = 8;
/// Pixels between pictures.
const GAP: usize = 6;
const PAPER: [u8; 3] = [250, 250, 250];
const INK: [u8; 3] = [30, 30, 30];

/// Draws pictures with their captions, `columns` beside each other. A caption is cut where its picture ends.
pub fn contact_sheet(pictures: &[(ImageRef<'_>, &str)], columns: usize) -> Image {
    let columns = columns.clamp(1, pictures.len().max(1));
    let scaled: Vec<(Image, &str)> =
        pictures.iter().map(|&(picture, caption)| (enlarged(picture), caption)).collect();
    let width = scaled.iter().map(|(picture, _)| picture.width).max().unwrap_or(0);
    let height = scaled.iter().map(|(picture, _)| picture.height).max().unwrap_or(0);
    let (across, down) = (width + GAP, height + LETTER + 2 * GAP);
    let rows = scaled.len().div_ceil(columns);
    let mut sheet = Image::filled(GAP + columns * across, GAP + rows * down, PAPER);
    for (place, (picture, caption)) in scaled.iter().enumerate() {
        let (x, y) = (GAP + place % columns * across, GAP + place / columns * down);
        paste(&mut sheet, picture.view(), x, y);
        write(&mut sheet, caption, (x, y + height + GAP / 2), width);
    }
    sheet
}

/// Each pixel as a square, as often as it takes.
fn enlarged(picture: ImageRef<'_>) -> Image {
    let times = LEAST_COLUMNS.div_ceil(picture.width.max(1)).max(1);
    let (pixels, _) = picture.pixels.as_chunks::<3>();
    let rows = pixels.chunks_exact(picture.width.max(1));
    let wide =
        |row: &[[u8; 3]]| row.iter().flat_map(|&rgb| [rgb].repeat(times)).collect::<Vec<_>>();
    let pixels: Vec<u8> = rows.flat_map(|row| wide(row).repeat(times)).flatten().collect();
    Image { width: times * picture.width, height: times * picture.height, pixels }
}

fn paste(sheet: &mut Image, picture: ImageRef<'_>, x: usize, y: usize) {
    for row in 0..picture.height {
        let to = 3 * ((y + row) * sheet.width + x);
        let from = picture.row(row, 0, picture.width);
        sheet.pixels[to..to + from.len()].copy_from_slice(from);
    }
}

/// Letters of an 8x8 font, as many as fit; what it does not have is a question mark.
fn write(sheet: &mut Image, text: &str, (x, y): (usize, usize), width: usize) {
    let fallback = font8x8::BASIC_FONTS.get('?').unwrap_or_default();
    for (place, letter) in text.chars().take(width / LETTER).enumerate() {
        let glyph = font8x8::BASIC_FONTS
            .get(letter)
            .or_else(|| font8x8::LATIN_FONTS.get(letter))
            .or_else(|| font8x8::GREEK_FONTS.get(letter))
            .unwrap_or(fallback);
        for (row, bits) in glyph.iter().enumerate() {
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                let pixel = (y + row) * sheet.width + x + place * LETTER + column;
                sheet.pixels[3 * pixel..3 * pixel + 3].copy_from_slice(&INK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_lie_beside_each_other_with_captions_below() {
        let red = Image::filled(48, 24, [200, 0, 0]);
        let blue = Image::filled(96, 48, [0, 0, 200]);
        let sheet =
            contact_sheet(&[(red.view(), "red"), (blue.view(), "blue"), (red.view(), "")], 2);
        assert_eq!((sheet.width, sheet.height), (6 + 2 * 102, 6 + 2 * 68));
        let at = |x: usize, y: usize| &sheet.pixels[3 * (y * sheet.width + x)..][..3];
        assert_eq!((at(6, 6), at(101, 53)), (&[200, 0, 0][..], &[200, 0, 0][..]));
        assert_eq!((at(108, 6), at(102, 6)), (&[0, 0, 200][..], &PAPER[..]));
        assert_eq!(at(6, 74), &[200, 0, 0]);
        let ink = sheet.pixels.as_chunks::<3>().0.iter().filter(|&&pixel| pixel == INK).count();
        // The letters of "red" and "blue" have some 20 pixels each.
        assert!((100..250).contains(&ink), "{ink}");
    }
}
