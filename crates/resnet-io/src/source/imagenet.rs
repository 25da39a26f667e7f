//! ImageNet's validation pictures as they are shipped: all in one folder, their classes in a file elsewhere.
//!
//! Source: the development kit of ILSVRC 2012, `readme.txt`, and Kaggle's "ImageNet Object Localization
//! Challenge". The kit's `ILSVRC2012_validation_ground_truth.txt` has a class by its number in each line, in the order
//! of the pictures; Kaggle's `LOC_val_solution.csv` has `ILSVRC2012_val_00000001,n01751748 111 108 330 ...`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::Source;
use super::beside::Beside;
use super::files::{PictureFiles, Sample};
use super::place::{Entry, Store};
use crate::error::DataError;

/// The classes by the numbers of the development kit (`meta.mat`, `map_clsloc.txt`): line 1 is number 1.
const NUMBERED: &str = include_str!("imagenet_ids.txt");
/// Names of the files that have the classes, and where they lie in an unpacked development kit.
const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
const IN_KIT: &str = "ILSVRC2012_devkit_t12/data";
const SOLUTION: &str = "LOC_val_solution.csv";
/// Folders above the pictures that are looked at: `ILSVRC/Data/CLS-LOC/val` lies four below Kaggle's file.
const FOLDERS_ABOVE: usize = 4;

/// Which of ImageNet's validation pictures a file is, from 1 on, if it is one and lies in no class's folder.
pub(super) fn number(path: &str) -> Option<usize> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let (stem, _) = file.rsplit_once('.')?;
    let digits = stem.strip_prefix("ILSVRC2012_val_")?;
    let is_flat = folder.is_empty() || folder.ends_with("val");
    let number = digits.parse().ok().filter(|&number| 0 < number)?;
    (is_flat && digits.len() == 8).then_some(number)
}

/// The pictures, all of which have a [`number`], with the classes that a file beside them or above says.
///
/// # Errors
/// When there is no such file, or it does not name the class of each picture.
pub(super) fn open(
    store: &Arc<Store>,
    entries: Vec<Entry>,
    beside: &Beside,
) -> Result<Arc<dyn Source>, DataError> {
    let (file, text) = truth(beside).ok_or_else(|| DataError::NotASet {
        place: beside.name(),
        found: format!("ImageNet's validation pictures, but neither {GROUND_TRUTH} nor {SOLUTION} is with them or above"),
    })?;
    let mut classes: Vec<String> = NUMBERED.lines().map(str::to_string).collect();
    classes.sort_unstable();
    let fail = |found: String| DataError::NotASet { place: file.display().to_string(), found };
    let of_number = if file.ends_with(SOLUTION) { solution(&text) } else { ground_truth(&text) }
        .map_err(fail)?;
    let sample = |entry: Entry| {
        let number = number(&entry.path).expect("the caller has looked at all");
        let wnid =
            of_number.get(&number).ok_or_else(|| fail(format!("no class for picture {number}")))?;
        let label = classes
            .binary_search_by(|class| class.as_str().cmp(wnid))
            .map_err(|_| fail(format!("{wnid:?} is no class of ImageNet's")))?;
        let name_at = entry.path.rfind('/').map_or(0, |slash| slash + 1);
        let name_at = u32::try_from(name_at).expect("paths are short");
        let label = u32::try_from(label).expect("a thousand classes");
        Ok(Sample { entry, name_at, label, group: None })
    };
    let mut samples = entries.into_iter().map(sample).collect::<Result<Vec<_>, DataError>>()?;
    samples.sort_unstable_by_key(|sample| number(&sample.entry.path));
    Ok(Arc::new(PictureFiles::new(store.clone(), classes, samples)))
}

/// The nearest file of classes, and its text.
fn truth(beside: &Beside) -> Option<(PathBuf, String)> {
    let in_kit = format!("{IN_KIT}/{GROUND_TRUTH}");
    let folders = beside.and_above(FOLDERS_ABOVE).into_iter();
    folders
        .flat_map(|folder| [GROUND_TRUTH, &in_kit, SOLUTION].map(|name| folder.text(name)))
        .find_map(|found| found)
}

/// The class of each picture's number, by the development kit's file.
fn ground_truth(text: &str) -> Result<HashMap<usize, &str>, String> {
    let numbered: Vec<&str> = NUMBERED.lines().collect();
    let class = |(number, line): (usize, &str)| {
        let id: Option<usize> = line.trim().parse().ok();
        let wnid = id.and_then(|id| numbered.get(id.checked_sub(1)?));
        let wnid = wnid.ok_or_else(|| format!("line {number} is no number from 1 to 1000"))?;
        Ok((number, *wnid))
    };
    (1..).zip(text.lines()).map(class).collect()
}

/// The same by Kaggle's file.
fn solution<'a>(text: &'a str) -> Result<HashMap<usize, &'a str>, String> {
    let class = |(line, text): (usize, &'a str)| {
        let fail = || format!("line {line} names no picture and class");
        let (picture, boxes) = text.split_once(',').ok_or_else(fail)?;
        let number = number(&format!("{picture}.JPEG")).ok_or_else(fail)?;
        Ok((number, boxes.split_whitespace().next().ok_or_else(fail)?))
    };
    let lines = (1..).zip(text.lines()).skip(1);
    lines.filter(|(_, text)| !text.trim().is_empty()).map(class).collect()
}
