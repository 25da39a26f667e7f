//! What can be wrong with data: one enum for the crate, each variant naming the file or address.

use std::io;
use std::path::{Path, PathBuf};

use crate::source::HeldBack;

/// Why pictures could not be found, read or turned into a batch.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The system could not read a file or folder.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A server that would not send a file, or not all of it.
    #[error("{url}: {reason}")]
    Download {
        /// The file's address.
        url: String,
        /// What the server or the connection said.
        reason: String,
    },
    /// A server that does not give what is asked of it.
    #[error("{address}: {reason}")]
    Remote {
        /// The file or folder.
        address: String,
        /// What kind of fault it is.
        kind: RemoteFault,
        /// What the server or the connection said.
        reason: String,
    },
    /// The address of a server, in a program that was built to speak with none.
    #[error("{address}: this build reads no pictures from servers")]
    NotBuilt {
        /// The address as given.
        address: String,
    },
    /// No folder for copies of what must be read whole.
    #[error("{place}: must be copied, and no folder for that is known")]
    NoCache {
        /// What is to be copied.
        place: String,
    },
    /// A file from a server that is not the one it should be.
    #[error("{url}: sent a file with the MD5 sum {found}, expected {expected}; it was removed")]
    WrongSum {
        /// The file's address.
        url: String,
        /// The sum of what came.
        found: String,
        /// The sum that is known.
        expected: String,
    },
    /// An address that is neither a file, a folder nor a known word.
    #[error("no data at {address:?}: no such file or folder{}", did_you_mean(suggestion))]
    UnknownAddress {
        /// The address as given.
        address: String,
        /// A name near it that would do.
        suggestion: Option<String>,
    },
    /// A key of `generated:` that does not exist.
    #[error(
        "generated: unknown key {key:?}, expected classes, images, size or seed{}",
        did_you_mean(suggestion)
    )]
    UnknownGeneratedKey {
        /// The key as given.
        key: String,
        /// The known key nearest to it.
        suggestion: Option<String>,
    },
    /// A value of `generated:` that cannot be used.
    #[error("generated: {key}={value:?}, expected {expected}")]
    GeneratedValue {
        /// The key.
        key: &'static str,
        /// The value as given.
        value: String,
        /// What would do.
        expected: String,
    },
    /// A place without a single picture.
    #[error("{place}: no images in it")]
    Empty {
        /// The folder or archive.
        place: String,
    },
    /// Pictures of one class only: there is nothing to tell apart.
    #[error("{place}: only one class, {class:?}; a classifier needs two or more")]
    OneClass {
        /// The folder or archive.
        place: String,
        /// The class.
        class: String,
    },
    /// Something that is no set of pictures.
    #[error("{place}: not an image set: {found}")]
    NotASet {
        /// The file, folder or archive.
        place: String,
        /// What is there instead.
        found: String,
    },
    /// A CIFAR record with a class beyond the last.
    #[error("{place}: record {record} has class {label}, expected at most {last}")]
    BadLabel {
        /// The file.
        place: String,
        /// The record's number, from 0.
        record: usize,
        /// The class in it.
        label: u8,
        /// The last class there is.
        last: u8,
    },
    /// A class of one split that the training split does not have.
    #[error("{place}: class {class:?} is not among the {known} classes of the training set")]
    UnknownClass {
        /// The split.
        place: String,
        /// The class.
        class: String,
        /// How many the training set has.
        known: usize,
    },
    /// A fraction that would leave nothing on one side.
    #[error("validation fraction {fraction}: expected a number between 0 and 1, both excluded")]
    BadFraction {
        /// The fraction as given.
        fraction: f64,
    },
    /// So little, or so much, held back that one side would have none.
    #[error("{what} of {images} images leaves none {side}")]
    EmptySide {
        /// What is held back.
        what: HeldBack,
        /// How many pictures there are.
        images: usize,
        /// What the empty side is for.
        side: &'static str,
    },
    /// A split was asked for where one is already there.
    #[error("{place}: has a validation split already, so none can be held back")]
    SplitTwice {
        /// The folder or archive.
        place: String,
    },
    /// A file that is no picture of a known format.
    #[error("{name}: not an image: {found}")]
    NotAnImage {
        /// The file.
        name: String,
        /// What it is instead.
        found: String,
    },
    /// A picture that is damaged or cut short.
    #[error("{name}: cannot be decoded: {reason}")]
    Decode {
        /// The file.
        name: String,
        /// What the decoder said.
        reason: String,
    },
    /// A picture beyond the limit on pixels.
    #[error("{name}: {width}x{height} pixels are more than the limit of {limit}")]
    TooLarge {
        /// The file.
        name: String,
        /// Pixels in a row.
        width: u64,
        /// Rows.
        height: u64,
        /// The most pixels that are decoded.
        limit: u64,
    },
    /// A picture that does not have the size of its batch.
    #[error("{name}: {width}x{height} pixels, expected {expected_width}x{expected_height}")]
    WrongSize {
        /// The file.
        name: String,
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Pixels in a row of this batch.
        expected_width: usize,
        /// Rows of this batch.
        expected_height: usize,
    },
    /// A batch size that cannot be filled, or of one in training.
    #[error("batch size {batch_size}: expected {expected}")]
    BatchSize {
        /// The batch size as given.
        batch_size: usize,
        /// What would do.
        expected: String,
    },
    /// A picture that no file of the format can hold.
    #[error("a picture of {width}x{height} pixels cannot be written: {reason}")]
    Encode {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// What the encoder said.
        reason: String,
    },
    /// Something that pictures of several classes cannot have.
    #[error("{what} needs pictures of one class each, and these may have several")]
    NeedsOneClass {
        /// What needs them.
        what: &'static str,
    },
    /// Shards of other pictures, or packed in another way.
    #[error("{place}: says that the folder holds shards of other pictures, or packed otherwise", place = place.display())]
    OtherPack {
        /// The file that says so.
        place: PathBuf,
    },
    /// Broken pictures where none are allowed.
    #[error("{broken} of {images} images cannot be read; the first: {first}")]
    BrokenPictures {
        /// How many cannot be read.
        broken: usize,
        /// How many there are.
        images: usize,
        /// What is wrong with the first, beginning with its name.
        first: String,
    },
    /// Every picture of a class is broken.
    #[error("class {class:?}: none of its {images} images can be read; the last problem: {last}")]
    NoReadable {
        /// The class.
        class: String,
        /// How many pictures it should have had.
        images: usize,
        /// What was wrong with one of them.
        last: String,
    },
}

/// What kind of fault a server, or an address, has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteFault {
    /// The address cannot be used.
    Address,
    /// There is no such file or folder.
    Missing,
    /// The server wants other credentials, or none but those of others.
    Denied,
    /// The file is no longer the one that was opened.
    Changed,
    /// The server sends whole files only.
    NoRanges,
    /// The server does not say what is in a folder.
    NoListing,
    /// No connection, no answer, or a wrong one, after several attempts.
    Failed,
}

impl RemoteFault {
    fn hint(self) -> &'static str {
        match self {
            RemoteFault::Address => {
                "addresses are s3://bucket/path, gs://bucket/path, az://container/path or http(s)://server/path"
            }
            RemoteFault::Missing => {
                "look at the spelling, and in which bucket, region or account it is"
            }
            RemoteFault::Denied => {
                "credentials come from the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, \
                 AZURE_STORAGE_ACCOUNT_KEY, ...); AWS_SKIP_SIGNATURE=true for public buckets"
            }
            RemoteFault::Changed => {
                "it was replaced meanwhile: start again, or go on with --resume"
            }
            RemoteFault::NoRanges => {
                "download the file and give its path: pictures are read out of the middle"
            }
            RemoteFault::NoListing => {
                "over http(s): a .tar, .parquet or .tar.gz, a pattern of them (train-{0000..0146}.tar), or a list of pictures"
            }
            RemoteFault::Failed => {
                "is the server up and the endpoint right (AWS_ENDPOINT_URL, AWS_ALLOW_HTTP=true for http)? go on with --resume"
            }
        }
    }
}

impl DataError {
    /// What the user can do about it, for the line after the error.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            DataError::UnknownAddress { .. } => {
                "give a folder with one folder of images per class, a .tar of one, CIFAR's .bin files, or `generated`"
                    .into()
            }
            DataError::Download { .. } => {
                "the same command goes on where it stopped; --mirror URL takes another server".into()
            }
            DataError::Remote { kind, .. } => kind.hint().into(),
            DataError::NotBuilt { .. } => {
                "build it with `cargo build --release --features remote`, or copy the pictures here".into()
            }
            DataError::NoCache { .. } => "set RESNET_CACHE to a folder".into(),
            DataError::WrongSum { .. } => {
                "try again; if it stays so, the server has another file: --mirror URL takes another"
                    .into()
            }
            DataError::Empty { .. } | DataError::NotASet { .. } => {
                "one folder of images per class is expected: PLACE/cat/1.jpg, PLACE/dog/2.jpg".into()
            }
            DataError::OneClass { .. } => {
                "put the images of each class into a folder of their own".into()
            }
            DataError::UnknownClass { .. } => {
                "the folders of all splits are matched by name".into()
            }
            DataError::WrongSize { expected_width: columns, expected_height: rows, .. } => {
                format!(
                    "--resize {} scales pictures first; in a recipe, augment.steps and eval.resize do",
                    columns.min(rows)
                )
            }
            DataError::BatchSize { .. } => {
                "a smaller --batch-size, or none: the recipe's is made to fit".into()
            }
            DataError::NotAnImage { .. } | DataError::Decode { .. } => {
                "JPEG, PNG, GIF, BMP, WebP and TIFF are read; open the file elsewhere, or leave it out"
                    .into()
            }
            DataError::UnknownGeneratedKey { .. } | DataError::GeneratedValue { .. } => {
                "for example generated:classes=10,images=5000,size=32,seed=1".into()
            }
            DataError::BadLabel { .. } => {
                "CIFAR-10's records have 3073 bytes, CIFAR-100's 3074; the file may be damaged".into()
            }
            DataError::BadFraction { .. } => "for example --val-fraction 0.1".into(),
            DataError::EmptySide { .. } => {
                "each class gives its rounded share: hold back another, or take more images".into()
            }
            DataError::SplitTwice { .. } => "leave --val-fraction or --fold out".into(),
            DataError::TooLarge { .. } => "scale it down, or leave it out".into(),
            DataError::Encode { .. } => "--resize scales pictures down".into(),
            DataError::NeedsOneClass { .. } => {
                "leave it out, or give a list with a column `label` of one class each".into()
            }
            DataError::OtherPack { .. } => {
                "another --out packs anew; the same flags go on with what is there".into()
            }
            DataError::BrokenPictures { .. } => {
                "without --strict others take their places; repair them, or leave them out".into()
            }
            DataError::NoReadable { .. } => "look at the files, or leave the class out".into(),
            DataError::Io { source, .. } => system_hint(source),
        })
    }
}

/// Names the file of a system's error.
pub(crate) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_path_buf();
    move |source| DataError::Io { path, source }
}

/// What the user can do about an error of the system that has named its file already.
pub fn system_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is the path right? it counts from the folder you are in",
        io::ErrorKind::PermissionDenied => "you are not allowed to: look at the owner and mode",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room, or write elsewhere"
        }
        io::ErrorKind::IsADirectory => "a file is expected, not a folder",
        io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder",
        _ => "the system would not do it: is the file whole, the disk in order?",
    }
    .into()
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}
