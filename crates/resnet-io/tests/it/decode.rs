//! Decoding against Pillow's verdicts on odd files.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use resnet_io::decode::{Exif, decode, decode_by, decode_part};
use resnet_io::source::{Encoded, OpenOptions, open_any};
use resnet_io::{DataError, Part};

use crate::real_data::{sha256, shared};

/// A picture made by `xtask/oracle/pictures.py`.
fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/pictures", name].iter().collect()
}

#[test]
fn every_mode_and_format_has_pillows_pixels() {
    let table = fs::read_to_string(fixture("pictures.tsv")).unwrap();
    let mut count = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let [name, width, height, rgb] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let image = decode(name, &fs::read(fixture(name)).unwrap()).unwrap();
        let found: String = image.pixels.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(format!("{}x{}", image.width, image.height), format!("{width}x{height}"));
        assert_eq!(found, rgb, "{name}");
        count += 1;
    }
    assert_eq!(count, 39);
}

#[test]
fn a_picture_cut_anywhere_is_an_error_and_never_half_a_picture() {
    // Bytes behind the last pixel, checksums and end marks, that may be missing.
    let tails = [("rgb.jpg", 2), ("progressive.jpg", 2), ("rgb.png", 12), ("rgb.bmp", 0)];
    for (name, tail) in tails.into_iter().chain([("lossless.webp", 1), ("palette.gif", 3)]) {
        let whole = fs::read(fixture(name)).unwrap();
        let expected = decode(name, &whole).unwrap();
        for length in 0..whole.len() {
            match decode(name, &whole[..length]) {
                Ok(image) => {
                    assert!(whole.len() - length <= tail, "{name} cut to {length} bytes");
                    assert_eq!(image, expected, "{name} cut to {length} bytes");
                }
                Err(error) => assert!(error.to_string().starts_with(name), "{error}"),
            }
        }
    }
}

/// The pictures in TIFF that there are here.
fn tiffs() -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().path());
    let tiffs = files.filter(|path| path.extension().is_some_and(|extension| extension == "tif"));
    let read = |path: PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(path).unwrap())
    };
    let tiffs: Vec<_> = tiffs.map(read).collect();
    assert_eq!(tiffs.len(), 18);
    tiffs
}

#[test]
fn a_tiff_with_any_byte_altered_or_cut_anywhere_is_an_error_or_a_picture() {
    for (name, whole) in tiffs() {
        let expected = decode(&name, &whole).unwrap();
        let check = |bytes: &[u8]| match decode(&name, bytes) {
            Ok(image) => assert_eq!(image.pixels.len(), 3 * image.width * image.height, "{name}"),
            Err(error) => assert!(error.to_string().starts_with(&name), "{error}"),
        };
        for length in 0..whole.len() {
            match decode(&name, &whole[..length]) {
                // What is not needed to read it may be missing.
                Ok(image) => assert_eq!(image, expected, "{name} cut to {length} bytes"),
                Err(error) => assert!(error.to_string().starts_with(&name), "{error}"),
            }
        }
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                check(&bytes);
            }
        }
    }
}

#[test]
fn kinds_of_tiff_that_are_not_read_are_refused_by_name() {
    let path = fixture("planes.tif");
    let whole = fs::read(path).unwrap();
    // A field of its directory, big-endian: number, type, count, value.
    let with = |number: u16, new: u16, value: u16| {
        let entry = [&number.to_be_bytes()[..], &[0, 3, 0, 0, 0, 1]].concat();
        let at = whole.windows(8).position(|bytes| bytes == entry).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
        bytes[at + 8..at + 10].copy_from_slice(&value.to_be_bytes());
        decode("a.tif", &bytes).unwrap_err().to_string()
    };
    // 278 is a field that can be done without: a picture of one strip needs no rows.
    assert!(with(278, 259, 7).contains("compression 7"), "{}", with(278, 259, 7));
    assert!(with(278, 266, 2).contains("fill order 2"), "{}", with(278, 266, 2));
    assert!(with(278, 324, 8).contains("planes in tiles"), "{}", with(278, 324, 8));
    assert!(with(262, 262, 8).contains("photometric interpretation 8"));
    assert!(with(277, 277, 7).contains("samples a pixel of 7"));
    let error = decode("b.tif", b"II+\0\x08\0\0\0").unwrap_err().to_string();
    assert!(error.contains("BigTIFF"), "{error}");
}

/// Formats that are not promised, or not all kinds of them.
const OTHER_FORMATS: [&str; 6] = ["TIFF", "PPM", "TGA", "ICO", "PCX", "QOI"];
/// Files on which we disagree with Pillow and mean to: docs/formats.md says why, for each.
const DELIBERATE: &[&str] = &[
    "bmp/b/badplanes.bmp",
    "bmp/b/badrle.bmp",
    "bmp/b/rletopdown.bmp",
    "bmp/g/rgb16-565.bmp",
    "bmp/g/rgb16-565pal.bmp",
    "bmp/g/rgb16.bmp",
    "bmp/q/pal2.bmp",
    "bmp/q/pal4rletrns.bmp",
    "bmp/q/pal8os2v2.bmp",
    "bmp/q/pal8rletrns.bmp",
    "bmp/q/rgb16-231.bmp",
    "bmp/q/rgba16-4444.bmp",
    "mmap_error.bmp",
    "no_palette.gif",
    "png_decompression_dos.png",
    "xmp_tags_orientation_exiftool.png",
];

#[test]
fn odd_files_have_pillows_pixels_or_an_error() {
    let (Some(tar), Some(verdicts)) = (shared("tricky-images.tar"), shared("pillow_verdicts.tsv"))
    else {
        return;
    };
    let verdicts = fs::read_to_string(verdicts).unwrap();
    let mut lines = verdicts.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| header.iter().position(|known| *known == name).unwrap();
    let [file, format, rgb, error] = ["file", "format", "rgb_sha256", "error"].map(column);
    let upright = column("rgb_oriented_sha256");
    let verdicts: HashMap<&str, Vec<&str>> = lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|row| (row[file], row))
        .collect();
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let (mut equal, mut refused) = (0, 0);
    let mut differ = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let name = name.trim_start_matches("./").to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let Some(verdict) = verdicts.get(name.as_str()) else { continue };
        match (decode(&name, &bytes), verdict[error].is_empty()) {
            // Of one so large that Pillow warns, the verdict has no pixels.
            (Ok(_), true) if verdict[rgb].starts_with("(not computed") => equal += 1,
            (Ok(image), true) if sha256(&image.pixels) == verdict[rgb] => {
                equal += 1;
                let turned = decode_by(&name, &bytes, Exif::Apply).unwrap();
                if sha256(&turned.pixels) != verdict[upright] {
                    differ.push(format!("{} {name}: upright", verdict[format]));
                }
            }
            (Err(_), false) => refused += 1,
            (Err(_), true) if OTHER_FORMATS.contains(&verdict[format]) => refused += 1,
            (Ok(_), _) => differ.push(format!("{} {name}: pixels or verdict", verdict[format])),
            (Err(error), true) => differ.push(format!("{} {error}", verdict[format])),
        }
    }
    println!("{equal} equal, {refused} refused as by Pillow, {} differ:", differ.len());
    differ.iter().for_each(|line| println!("  {line}"));
    let known = |line: &&String| DELIBERATE.iter().any(|name| line.contains(&format!(" {name}:")));
    let wrong: Vec<_> = differ.iter().filter(|line| !known(line)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(differ.len(), DELIBERATE.len(), "some are right now: take them off the list");
}

#[test]
fn a_claim_of_too_many_pixels_is_refused_by_the_header() {
    // 100,000 x 100,000 pixels in a file of 57 bytes.
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let side = 100_000u32.to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    for (kind, data) in [(b"IHDR", &header[..]), (b"IDAT", &[]), (b"IEND", &[])] {
        let body = [kind, data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(&body);
        bytes.extend(crc.sum().to_be_bytes());
    }
    let error = decode("huge.png", &bytes).unwrap_err();
    let is_it = matches!(error, DataError::TooLarge { width: 100_000, height: 100_000, .. });
    assert!(is_it && error.to_string().starts_with("huge.png"), "{error}");
}

/// Parts of all corners, borders, sizes and places of a picture.
fn parts(width: usize, height: usize) -> Vec<Part> {
    let cuts = |size: usize| {
        let places =
            [0, 1, 7, 8, 15, 16, 17, 31, size / 3, size / 2, size.saturating_sub(17), size - 1];
        let lengths = [1, 2, 8, 16, 33, size / 2, size];
        let mut all = Vec::new();
        for start in places.into_iter().filter(|&start| start < size) {
            for length in lengths {
                all.push((start, length.clamp(1, size - start)));
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    };
    let (across, down) = (cuts(width), cuts(height));
    // Not all pairs: each cut of one side with some of the other.
    let pair = |(i, &(x, width)): (usize, &(usize, usize))| {
        [0, 1].map(|k| {
            let (y, height) = down[(7 * i + k * down.len() / 2) % down.len()];
            Part { x, y, width, height }
        })
    };
    across.iter().enumerate().flat_map(pair).collect()
}

fn check_parts(name: &str, bytes: &[u8]) {
    let whole = decode(name, bytes).unwrap();
    for part in parts(whole.width, whole.height) {
        let found = decode_part(name, bytes, Exif::Ignore, |_, _| Some(part)).unwrap().unwrap();
        let rows = part.y..part.y + part.height;
        let rows = rows.flat_map(|y| whole.view().row(y, part.x, part.width));
        assert!(found.pixels.iter().eq(rows), "{name} {part:?}");
    }
}

#[test]
fn a_part_of_a_jpeg_has_the_pixels_of_the_whole() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");
    for name in ["rgb.jpg", "grey.jpg", "cmyk.jpg", "progressive.jpg"] {
        check_parts(name, &std::fs::read(format!("{folder}/{name}")).unwrap());
    }
}

#[test]
fn parts_of_photos_and_tricky_jpegs_have_the_pixels_of_the_whole() {
    for file in ["imagenet-photos-125.tar", "tricky-images.tar"] {
        let Some(path) = shared(file) else { continue };
        let set = open_any(path.to_str().unwrap(), &OpenOptions::default()).unwrap();
        let mut checked = 0;
        for source in [set.train, set.others].into_iter().flatten() {
            // Some photos: seconds, not minutes.
            for index in
                (0..source.len()).step_by(if file.starts_with("imagenet") { 25 } else { 1 })
            {
                let Encoded::File(bytes) = source.read(index).unwrap() else { panic!("a file") };
                if bytes.starts_with(&[0xff, 0xd8, 0xff]) && decode("x", &bytes).is_ok() {
                    check_parts(&source.name(index), &bytes);
                    checked += 1;
                }
            }
        }
        assert!(4 < checked, "{file}: {checked}");
    }
}

#[test]
fn damage_outside_the_part_is_an_error_too() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");
    for name in ["rgb.jpg", "progressive.jpg"] {
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();
        let part = Part { x: 0, y: 0, width: 2, height: 2 };
        let cut = &bytes[..bytes.len() * 9 / 10];
        assert!(decode(name, cut).is_err());
        assert!(decode_part(name, cut, Exif::Ignore, |_, _| Some(part)).is_err(), "{name}");
        let beyond = Part { x: 1, width: 10_000, ..part };
        assert!(decode_part(name, &bytes, Exif::Ignore, |_, _| Some(beyond)).is_err(), "{name}");
    }
}
