//! Names of classes: from a file, from a model, and how folders of pictures are matched to them.

use std::path::Path;

use crate::error::{TrainError, io_error};

/// Names in the order of the logits; empty where they are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// What people call them.
    pub labels: Vec<String>,
    /// WordNet identifiers, where there are any; folders of ImageNet carry them.
    pub wnids: Vec<String>,
}

impl Classes {
    /// Labels alone.
    pub fn of_labels(labels: Vec<String>) -> Classes {
        Classes { labels, wnids: Vec::new() }
    }

    /// Reads a name a line, or tab-separated columns under a header with `label`, and perhaps `index`
    /// and `wnid`.
    ///
    /// # Errors
    /// A file that cannot be read, lines without the columns of the header, indices that are not
    /// 0, 1, 2, ...
    pub fn read(path: &Path) -> Result<Classes, TrainError> {
        let text = std::fs::read_to_string(path).map_err(io_error(path))?;
        let fail = |message| TrainError::ClassNames { path: path.into(), message };
        parse(&text).map_err(fail)
    }

    /// What a class is called: its label, else its number.
    pub fn label(&self, class: usize) -> String {
        self.labels.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// Whether the names are for so many classes, or none at all.
    ///
    /// # Errors
    /// [`TrainError::Classes`] otherwise.
    pub fn check_count(&self, classes: usize) -> Result<(), TrainError> {
        let found = self.labels.len();
        if found == 0 || found == classes {
            return Ok(());
        }
        let message = format!("{found} class names for a network of {classes} classes");
        Err(TrainError::Classes { message })
    }

    /// For each class of some pictures, by name, its number in the model: by wnid, then by label,
    /// exactly. Where the model's names are not known, order tells if the numbers agree.
    ///
    /// # Errors
    /// A name that is none of the model's; another number of classes where only order could tell.
    pub fn positions(&self, names: &[String], classes: usize) -> Result<Vec<u32>, TrainError> {
        if self.labels.is_empty() {
            if classes != names.len() {
                let found = names.len();
                let message =
                    format!("the pictures have {found} classes, the model {classes} without names");
                return Err(TrainError::Classes { message });
            }
            return Ok((0..).take(names.len()).collect());
        }
        names.iter().map(|name| self.position(name)).collect()
    }

    fn position(&self, name: &str) -> Result<u32, TrainError> {
        let find = |list: &[String]| list.iter().position(|known| known == name);
        let found = find(&self.wnids).or_else(|| find(&self.labels));
        match found {
            Some(position) => Ok(u32::try_from(position).expect("classes are counted in 32 bits")),
            None => {
                let scored = self.labels.iter().map(|l| (strsim::jaro_winkler(name, l), l));
                let best = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(s, _)| 0.8 < *s);
                let nearest = best
                    .map(|(_, label)| format!("; did you mean \"{label}\"?"))
                    .unwrap_or_default();
                let known = self.labels.len();
                let message = format!(
                    "class \"{name}\" of the pictures is none of the model's {known}{nearest}"
                );
                Err(TrainError::Classes { message })
            }
        }
    }
}

fn parse(text: &str) -> Result<Classes, String> {
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).peekable();
    let header: Vec<&str> = lines.peek().map_or(Vec::new(), |line| line.split('\t').collect());
    let column = |name: &str| header.iter().position(|known| *known == name);
    let Some(label) = column("label").filter(|_| 1 < header.len()) else {
        let labels: Vec<String> = lines.map(|line| line.trim().to_string()).collect();
        return if labels.is_empty() {
            Err("no names".into())
        } else {
            Ok(Classes::of_labels(labels))
        };
    };
    let (index, wnid) = (column("index"), column("wnid"));
    let mut classes = Classes::default();
    for (number, line) in lines.skip(1).enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        let field = |column: usize| {
            let found = fields.get(column).map(|field| (*field).to_string());
            found.ok_or_else(|| {
                format!(
                    "line {}: {} columns, the header has {}",
                    number + 2,
                    fields.len(),
                    header.len()
                )
            })
        };
        if let Some(column) = index {
            let found = field(column)?;
            if found != number.to_string() {
                return Err(format!("line {}: index {found}, expected {number}", number + 2));
            }
        }
        classes.labels.push(field(label)?);
        if let Some(column) = wnid {
            classes.wnids.push(field(column)?);
        }
    }
    if classes.labels.is_empty() { Err("no names".into()) } else { Ok(classes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lines_or_columns() {
        assert_eq!(parse("cat\ndog\n").unwrap().labels, ["cat", "dog"]);
        let classes = parse("index\twnid\tlabel\n0\tn01\ttench\n1\tn02\tgreat shark\n").unwrap();
        assert_eq!((classes.label(1), classes.label(7)), ("great shark".into(), "7".into()));
        assert_eq!(classes.wnids, ["n01", "n02"]);
        assert_eq!(parse("").unwrap_err(), "no names");
        assert_eq!(parse("index\tlabel\n1\ta\n").unwrap_err(), "line 2: index 1, expected 0");
        assert_eq!(parse("index\tlabel\n0\n").unwrap_err(), "line 2: 1 columns, the header has 2");
    }

    #[test]
    fn folders_match_by_wnid_or_label_and_never_by_order() {
        let classes = parse("wnid\tlabel\nn01\ttench\nn02\tshark\n").unwrap();
        let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(classes.positions(&names(&["n02", "tench"]), 2).unwrap(), [1, 0]);
        let error = classes.positions(&names(&["shrak"]), 2).unwrap_err().to_string();
        assert!(error.ends_with("did you mean \"shark\"?"), "{error}");
        assert_eq!(Classes::default().positions(&names(&["x", "y"]), 2).unwrap(), [0, 1]);
    }
}
