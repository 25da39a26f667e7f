//! The loader: batches are a function of (source, seed, epoch, step), whoever makes them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use resnet_io::augment::Step;
use resnet_io::decode::Exif;
use resnet_io::loader::{Batch, LastBatch, Loader, LoaderSpec, Mode, Order, Sampling};
use resnet_io::source::{
    Cached, Encoded, Generated, GeneratedSpec, GeneratedSplit, Source, Subset,
};
use resnet_io::{Colour, DataError, ImageRef};

const SIDE: usize = 8;

fn generated(images: u32) -> Arc<dyn Source> {
    let spec = GeneratedSpec { classes: 3, images, size: SIDE as u32, seed: 2 };
    Arc::new(Generated::new(&spec, GeneratedSplit::Train))
}

pub(crate) fn spec(mode: Mode, workers: usize) -> LoaderSpec {
    let steps = match mode {
        Mode::Train => vec![Step::PadCrop { padding: 2 }, Step::Flip { p: 0.5 }],
        Mode::Eval => Vec::new(),
    };
    let (colour, batch_size) = (Colour::Rgb, 8);
    let (width, height, mix, seed) = (SIDE, SIDE, None, 4);
    let (exif, repeats, order) = (Exif::Ignore, 1, Order::default());
    LoaderSpec {
        mode,
        batch_size,
        width,
        height,
        colour,
        exif,
        steps,
        repeats,
        mix,
        seed,
        order,
        workers,
    }
}

/// All batches of an epoch from a step on.
pub(crate) fn batches(loader: &Loader, epoch: u32, first: usize) -> Result<Vec<Batch>, DataError> {
    let (mut queue, mut all) = (loader.epoch(epoch, first), Vec::new());
    while let Some(batch) = queue.next_batch()? {
        all.push(batch.clone());
        queue.recycle(batch);
    }
    Ok(all)
}

#[test]
fn any_number_of_workers_makes_the_same_batches() {
    for mode in [Mode::Train, Mode::Eval] {
        let made = |workers| {
            let loader = Loader::new(generated(99), spec(mode, workers)).unwrap();
            (0..2).flat_map(|epoch| batches(&loader, epoch, 0).unwrap()).collect::<Vec<_>>()
        };
        let expected = made(1);
        assert_eq!(expected.len(), 26);
        for workers in [2, 3, 7, 40] {
            assert!(made(workers) == expected, "{workers} workers");
        }
    }
}

#[test]
fn an_epoch_that_begins_in_its_middle_goes_on_as_the_whole_one() {
    let loader = Loader::new(generated(99), spec(Mode::Train, 2)).unwrap();
    let whole = batches(&loader, 5, 0).unwrap();
    assert_eq!(batches(&loader, 5, 9).unwrap(), whole[9..]);
    assert_eq!(batches(&loader, 5, 13).unwrap(), []);
}

#[test]
fn every_picture_comes_once_an_epoch_and_never_alone_in_training() {
    for images in [16, 17, 18, 23, 24, 25, 97] {
        let loader = Loader::new(generated(images), spec(Mode::Train, 2)).unwrap();
        let made = batches(&loader, 1, 0).unwrap();
        assert!(made.iter().all(|batch| (2..=8).contains(&batch.len())), "{images} images");
        let mut samples: Vec<u32> = made.iter().flat_map(|batch| batch.samples.clone()).collect();
        samples.sort_unstable();
        assert_eq!(samples, (0..images).collect::<Vec<_>>());
    }
    let single = LoaderSpec { batch_size: 1, ..spec(Mode::Train, 1) };
    assert!(matches!(Loader::new(generated(9), single), Err(DataError::BatchSize { .. })));
}

#[test]
fn several_processes_make_each_batch_together() {
    let whole = Loader::new(generated(99), spec(Mode::Train, 2)).unwrap();
    let whole = batches(&whole, 1, 0).unwrap();
    let share = |rank| {
        let order = Order { rank, ranks: 3, ..Order::default() };
        let loader = Loader::new(generated(99), LoaderSpec { order, ..spec(Mode::Train, 1) });
        batches(&loader.unwrap(), 1, 0).unwrap()
    };
    let shares = [share(0), share(1), share(2)];
    for (step, batch) in whole.iter().enumerate() {
        let samples = shares.iter().flat_map(|share| share[step].samples.clone());
        assert_eq!(samples.collect::<Vec<_>>(), batch.samples);
        let pixels = shares.iter().flat_map(|share| share[step].pixels.clone());
        assert_eq!(pixels.collect::<Vec<_>>(), batch.pixels);
    }
}

#[test]
fn balanced_and_cut_epochs_go_on_in_their_middle_too() {
    let order =
        Order { sampling: Sampling::Balanced, last_batch: LastBatch::Drop, ..Order::default() };
    let made = |workers, first| {
        let loader = Loader::new(generated(99), LoaderSpec { order, ..spec(Mode::Train, workers) });
        batches(&loader.unwrap(), 2, first).unwrap()
    };
    let whole = made(1, 0);
    assert_eq!(whole.iter().map(Batch::len).collect::<Vec<_>>(), [8; 12]);
    for workers in [2, 7] {
        assert!(made(workers, 0) == whole && made(workers, 5) == whole[5..], "{workers} workers");
    }
}

#[test]
fn a_sample_that_comes_again_is_augmented_anew() {
    // One picture of class 0 among nine of class 1: it fills half of each epoch.
    let all = generated(60);
    let of = |class: u32, count: usize| {
        (0..60).filter(|&i| all.label(i as usize) == class).take(count).collect::<Vec<u32>>()
    };
    let indices = [of(0, 1), of(1, 9)].concat();
    let source = Arc::new(Subset::new(all.clone(), indices));
    let order = Order { sampling: Sampling::Balanced, ..Order::default() };
    let loader = Loader::new(source, LoaderSpec { order, ..spec(Mode::Train, 2) }).unwrap();
    let whole = batches(&loader, 0, 0).unwrap();
    let pictures = whole.iter().flat_map(|batch| {
        let pixels = batch.pixels.chunks_exact(3 * SIDE * SIDE);
        pixels.zip(&batch.labels).filter(|(_, label)| **label == 0).map(|(pixels, _)| pixels)
    });
    let pictures: Vec<&[u8]> = pictures.collect();
    let different: BTreeSet<&[u8]> = pictures.iter().copied().collect();
    assert!(5 <= pictures.len() && 2 < different.len(), "{} {}", pictures.len(), different.len());
}

#[test]
fn a_cache_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    crate::sources::tree(folder.path(), &["a/1.png", "a/2.png", "b/1.png", "b/2.png"]);
    std::fs::write(folder.path().join("b/broken.png"), "words").unwrap();
    let open = || {
        let place = folder.path().to_str().unwrap();
        resnet_io::source::open(place, &Default::default()).unwrap().train.unwrap()
    };
    // 36 bytes a picture: room for all, for two, for none.
    let plain = LoaderSpec { batch_size: 2, width: 4, height: 3, ..spec(Mode::Train, 2) };
    let made = |source: Arc<dyn Source>| {
        let loader = Loader::new(source, plain.clone()).unwrap();
        (0..3).map(|epoch| batches(&loader, epoch, 0).unwrap()).collect::<Vec<_>>()
    };
    let expected = made(open());
    for bytes in [1000, 80, 0] {
        assert!(
            made(Arc::new(Cached::new(open(), Exif::Ignore, bytes))) == expected,
            "{bytes} bytes"
        );
    }
    // What is kept is not read again.
    let cached = Cached::new(open(), Exif::Ignore, 1000);
    assert!(matches!(cached.read(0).unwrap(), Encoded::Pixels(_)));
    std::fs::remove_file(folder.path().join("a/1.png")).unwrap();
    assert!(matches!(cached.read(0).unwrap(), Encoded::Pixels(_)));
    assert_eq!(cached.left(), 1000 - 36);
}

/// Generated pictures, some of which cannot be decoded.
struct Damaged {
    whole: Arc<dyn Source>,
    broken: BTreeSet<usize>,
}

impl Source for Damaged {
    fn len(&self) -> usize {
        self.whole.len()
    }
    fn classes(&self) -> &[String] {
        self.whole.classes()
    }
    fn label(&self, index: usize) -> u32 {
        self.whole.label(index)
    }
    fn name(&self, index: usize) -> String {
        self.whole.name(index)
    }
    fn id(&self, index: usize) -> u64 {
        self.whole.id(index)
    }
    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        match self.broken.contains(&index) {
            true => Ok(Encoded::File(Cow::Borrowed(b"no picture"))),
            false => self.whole.read(index),
        }
    }
}

fn damaged(broken: impl IntoIterator<Item = usize>) -> Arc<dyn Source> {
    Arc::new(Damaged { whole: generated(30), broken: broken.into_iter().collect() })
}

#[test]
fn a_broken_picture_is_named_and_another_takes_its_place_in_training() {
    let made = |workers| {
        let loader = Loader::new(damaged([4, 11]), spec(Mode::Train, workers)).unwrap();
        batches(&loader, 0, 0).unwrap()
    };
    let one = made(1);
    assert!(one == made(3));
    assert_eq!(one.iter().map(Batch::len).collect::<Vec<_>>(), [8, 8, 8, 6]);
    assert!(one.iter().all(|batch| !batch.samples.contains(&4) && !batch.samples.contains(&11)));
    let mut named: Vec<_> = one.iter().flat_map(|batch| &batch.broken).collect();
    named.sort_by_key(|broken| broken.sample);
    assert_eq!(named.iter().map(|broken| broken.sample).collect::<Vec<_>>(), [4, 11]);
    assert_eq!(named[0].problem, "generated:train/4: not an image: text");
}

#[test]
fn a_broken_picture_is_left_out_in_evaluation() {
    let loader = Loader::new(damaged(8..16), spec(Mode::Eval, 2)).unwrap();
    let made = batches(&loader, 0, 0).unwrap();
    assert_eq!(made.iter().map(Batch::len).collect::<Vec<_>>(), [8, 0, 8, 6]);
    assert_eq!(made[1].broken.len(), 8);
}

#[test]
fn a_class_without_a_readable_picture_is_an_error() {
    for mode in [Mode::Train, Mode::Eval] {
        // Every third picture is of class 1.
        let loader = Loader::new(damaged((1..30).step_by(3)), spec(mode, 2)).unwrap();
        let error = batches(&loader, 0, 0).unwrap_err().to_string();
        assert!(error.starts_with("class \"ring\": none of its 10 images can be read"), "{error}");
    }
}

#[test]
fn a_picture_of_another_size_is_an_error_that_names_it() {
    let loader = LoaderSpec { width: SIDE + 1, ..spec(Mode::Eval, 1) };
    let error = batches(&Loader::new(generated(9), loader).unwrap(), 0, 0).unwrap_err();
    assert_eq!(error.to_string(), "generated:train/0: 8x8 pixels, expected 9x8");
}

#[test]
fn batches_that_are_not_taken_end_with_their_queue() {
    // Dropping it in the middle joins the workers, which wait for room by then.
    let loader = Loader::new(generated(900), spec(Mode::Train, 3)).unwrap();
    let mut queue = loader.epoch(0, 0);
    let first = queue.next_batch().unwrap().unwrap();
    drop(queue);
    let pixels = ImageRef { width: SIDE, height: SIDE, pixels: first.picture(0) };
    assert_eq!(pixels.row(0, 0, SIDE).len(), 3 * SIDE);
}

#[test]
fn grey_batches_have_one_channel_of_pillows_luma() {
    let colours = Loader::new(generated(16), spec(Mode::Train, 1)).unwrap();
    let grey = LoaderSpec { colour: Colour::Grey, ..spec(Mode::Train, 1) };
    let grey = Loader::new(generated(16), grey).unwrap();
    for (colours, grey) in
        batches(&colours, 0, 0).unwrap().iter().zip(&batches(&grey, 0, 0).unwrap())
    {
        let luma = |rgb: &[u8; 3]| {
            let [r, g, b] = rgb.map(f64::from);
            // Pillow's weights; its 16 bits of fraction round like this but for exact halves.
            ((r * 19_595.0 + g * 38_470.0 + b * 7_471.0) / 65_536.0 + 0.5).floor() as u8
        };
        let expected: Vec<u8> = colours.pixels.as_chunks::<3>().0.iter().map(luma).collect();
        assert_eq!(grey.pixels, expected);
        assert_eq!(grey.labels, colours.labels);
    }
}

#[test]
fn repeated_samples_are_augmented_anew_and_spread_over_the_batch() {
    let repeated = LoaderSpec { repeats: 2, ..spec(Mode::Train, 2) };
    let loader = Loader::new(generated(40), repeated).unwrap();
    let found = batches(&loader, 0, 0).unwrap();
    assert_eq!(found.iter().map(Batch::len).sum::<usize>(), 40);
    for batch in &found {
        assert_eq!(batch.samples[..4], batch.samples[4..]);
    }
    let copies = found.iter().flat_map(|batch| (0..4).map(move |i| (batch, i)));
    let same = copies.filter(|(batch, i)| batch.picture(*i) == batch.picture(i + 4)).count();
    // Of 50 pairs of places and mirrors one in 50 is the same.
    assert!(same < 5, "{same} of 20");
    let plain = Loader::new(generated(40), spec(Mode::Train, 1)).unwrap();
    let distinct: BTreeSet<u32> = found.iter().flat_map(|batch| batch.samples.clone()).collect();
    assert_eq!(distinct.len(), 20);
    // The first copy is the picture of the plain epoch.
    let plain = batches(&plain, 0, 0).unwrap();
    assert_eq!(plain[0].picture(0), found[0].picture(0));
}
