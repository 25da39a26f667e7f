//! Decoding against Pillow's verdicts on odd files.

use std::collections::HashMap;
use std::fs;
use std::io::Read;

use resnet_io::decode::decode;

use crate::real_data::{sha256, shared};

/// Formats that are not promised.
const OTHER_FORMATS: [&str; 5] = ["TIFF", "PPM", "TGA", "ICO", "PCX"];

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
            (Ok(image), true) if sha256(&image.pixels) == verdict[rgb] => equal += 1,
            (Err(_), false) => refused += 1,
            (Err(_), true) if OTHER_FORMATS.contains(&verdict[format]) => refused += 1,
            (Ok(_), _) => differ.push(format!("{} {name}: pixels or verdict", verdict[format])),
            (Err(error), true) => differ.push(format!("{} {error}", verdict[format])),
        }
    }
    println!("{equal} equal, {refused} refused as by Pillow, {} differ:", differ.len());
    differ.iter().for_each(|line| println!("  {line}"));
    let wrong: Vec<_> = differ.iter().filter(|line| line.starts_with("JPEG")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
