//! The sets that are known by name: addresses and sums as their authors publish them.

use super::{Known, Remote};

const TORONTO: &str = "https://www.cs.toronto.edu/~kriz";
// <http://yann.lecun.com/exdb/mnist> refuses programs; its mirror is what torchvision takes.
const MNIST: &str = "https://ossci-datasets.s3.amazonaws.com/mnist";
const ZALANDO: &str = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com";
const FAST_AI: &str = "https://s3.amazonaws.com/fast-ai-imageclas";

/// All that are known.
pub const KNOWN: [Known; 7] = [
    Known {
        name: "cifar10",
        about: "60,000 pictures of 32x32 in 10 classes (163 MB)",
        folder: "cifar-10-batches-bin",
        files: &[file(TORONTO, "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")],
        is_archive: true,
    },
    Known {
        name: "cifar100",
        about: "60,000 pictures of 32x32 in 100 classes (161 MB)",
        folder: "cifar-100-binary",
        files: &[file(TORONTO, "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")],
        is_archive: true,
    },
    Known {
        name: "mnist",
        about: "70,000 handwritten digits of 28x28 (11 MB)",
        folder: "mnist",
        files: &[
            file(MNIST, "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            file(MNIST, "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            file(MNIST, "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            file(MNIST, "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ],
        is_archive: false,
    },
    Known {
        name: "fashion-mnist",
        about: "70,000 pictures of clothes of 28x28 in 10 classes (29 MB)",
        folder: "fashion-mnist",
        files: &[
            file(ZALANDO, "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            file(ZALANDO, "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            file(ZALANDO, "t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            file(ZALANDO, "t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ],
        is_archive: false,
    },
    Known {
        name: "imagenette",
        about: "13,394 photos of 10 classes of ImageNet (1.5 GB)",
        folder: "imagenette2",
        files: &[file(FAST_AI, "imagenette2.tgz", "fe2fc210e6bb7c5664d602c3cd71e612")],
        is_archive: true,
    },
    Known {
        name: "imagenette-320",
        about: "the same, the shorter side scaled to 320 (330 MB)",
        folder: "imagenette2-320",
        files: &[file(FAST_AI, "imagenette2-320.tgz", "3df6f0d01a2c9592104656642f5e78a3")],
        is_archive: true,
    },
    Known {
        name: "imagenette-160",
        about: "the same, the shorter side scaled to 160 (99 MB)",
        folder: "imagenette2-160",
        files: &[file(FAST_AI, "imagenette2-160.tgz", "e793b78cc4c9e9a4ccc0c1155377a412")],
        is_archive: true,
    },
];

const fn file(base: &'static str, name: &'static str, md5: &'static str) -> Remote {
    Remote { base, name, md5 }
}

/// The set of this name.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|set| set.name == name)
}
