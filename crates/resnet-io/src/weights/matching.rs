//! Which tensor of a file goes where in a network, or a readable account of why it does not fit.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;

use super::model_file;
use super::tensor_file::{Tensor, TensorFile};

/// Parameters of the classifier begin with this.
const HEAD: &str = "fc.";
/// PyTorch's batch-norm step counter: in every file, needed by none with a fixed momentum.
const STEP_COUNTER: &str = ".num_batches_tracked";
/// How many tensors of each kind a message names.
const NAMED: usize = 3;

/// A parameter or statistic that a network needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Our (torchvision's) name.
    pub name: &'a str,
    /// Extents in canonical layout: OIHW for convolutions, `[out, in]` for the classifier.
    pub shape: &'a [usize],
}

/// What becomes of the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// It comes from the file and must fit.
    Keep,
    /// It stays as initialised, whatever the file has (`--new-head`).
    New,
}

/// A file that fits.
#[derive(Debug)]
pub struct Matched<'f> {
    /// For each expected tensor, in order, the file's; none where a new head stays as initialised.
    pub tensors: Vec<Option<&'f Tensor>>,
    /// Names that stay as initialised.
    pub new_head: Vec<String>,
}

/// A tensor's name and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Our name.
    pub name: String,
    /// Extents.
    pub shape: Vec<usize>,
}

/// A tensor of the right name, but another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Our name.
    pub name: String,
    /// The file's shape.
    pub found: Vec<usize>,
    /// The network's.
    pub expected: Vec<usize>,
}

/// A file that does not fit, and all that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The file.
    pub path: PathBuf,
    /// The network.
    pub network: String,
    /// What the network needs and the file has not, in the network's order.
    pub missing: Vec<Named>,
    /// What the file has and the network has no place for, in the file's order.
    pub unexpected: Vec<Named>,
    /// What has another shape, in the network's order.
    pub misshapen: Vec<Misshapen>,
}

/// Finds each expected tensor in a file whose tensors carry our names.
///
/// `num_batches_tracked`, and the optimiser's state and averages of a model file, are passed over.
/// A weight that differs only in trailing extents of one is taken: timm's pre-activation networks
/// classify by a 1x1 convolution.
///
/// # Errors
/// [`Mismatch`] when anything is missing, left over, or of another shape.
pub fn match_tensors<'f>(
    network: &str,
    expected: &[Expected<'_>],
    file: &'f TensorFile,
    head: Head,
) -> Result<Matched<'f>, Box<Mismatch>> {
    let by_name: HashMap<&str, &Tensor> =
        file.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let is_new = |name: &str| head == Head::New && name.starts_with(HEAD);
    let mut mismatch = Mismatch {
        path: file.path.clone(),
        network: network.into(),
        missing: Vec::new(),
        unexpected: Vec::new(),
        misshapen: Vec::new(),
    };
    let mut matched = Matched { tensors: Vec::with_capacity(expected.len()), new_head: Vec::new() };
    for &Expected { name, shape } in expected {
        if is_new(name) {
            matched.new_head.push(name.into());
            matched.tensors.push(None);
            continue;
        }
        match by_name.get(name) {
            Some(tensor) if same_shape(tensor.shape(), shape) => matched.tensors.push(Some(tensor)),
            Some(tensor) => mismatch.misshapen.push(Misshapen {
                name: name.into(),
                found: tensor.shape().into(),
                expected: shape.into(),
            }),
            None => mismatch.missing.push(Named { name: name.into(), shape: shape.into() }),
        }
    }
    let wanted: HashSet<&str> = expected.iter().map(|expected| expected.name).collect();
    for Tensor { name, .. } in &file.tensors {
        let passed_over = name.ends_with(STEP_COUNTER) || model_file::is_beside_weights(name);
        if !wanted.contains(name.as_str()) && !passed_over && !is_new(name) {
            let shape = by_name[name.as_str()].shape().into();
            mismatch.unexpected.push(Named { name: name.clone(), shape });
        }
    }
    if mismatch.is_empty() { Ok(matched) } else { Err(Box::new(mismatch)) }
}

/// Equal but for trailing extents of one.
fn same_shape(a: &[usize], b: &[usize]) -> bool {
    let trim = |shape: &[usize]| shape.iter().rposition(|&extent| extent != 1).map_or(0, |i| i + 1);
    a[..trim(a)] == b[..trim(b)]
}

impl Mismatch {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }

    /// What the user can do about it.
    pub fn hint(&self) -> String {
        let only_head = self.unexpected.is_empty()
            && self.missing.iter().all(|m| m.name.starts_with(HEAD))
            && self.misshapen.iter().all(|m| m.name.starts_with(HEAD));
        match self.misshapen.first() {
            Some(Misshapen { found, expected, .. }) if only_head => {
                let (found, expected) =
                    (found.first().unwrap_or(&1), expected.first().unwrap_or(&1));
                format!(
                    "the file has {found} classes, not {expected}: --new-head starts a new classifier"
                )
            }
            None if only_head => "the file has no classifier: --new-head starts one".into(),
            _ => "these are weights of another network: name it with --model".into(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: does not fit {}: ", self.path.display(), self.network)?;
        let named = |t: &Named| format!("{} {:?}", t.name, t.shape);
        let misshapen =
            |m: &Misshapen| format!("{} is {:?}, expected {:?}", m.name, m.found, m.expected);
        let mut parts = Vec::new();
        parts.extend(list("missing", &self.missing, named));
        parts.extend(list("unexpected", &self.unexpected, named));
        parts.extend(list("of another shape", &self.misshapen, misshapen));
        f.write_str(&parts.join("; "))
    }
}

impl std::error::Error for Mismatch {}

/// `5 missing (a [1], b [2], c [3] and 2 more)`, or nothing if there are none.
fn list<T>(what: &str, items: &[T], text: impl Fn(&T) -> String) -> Option<String> {
    if items.is_empty() {
        return None;
    }
    let named = items.iter().take(NAMED).map(text).collect::<Vec<_>>().join(", ");
    let more = match items.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("{} {what} ({named}{more})", items.len()))
}
