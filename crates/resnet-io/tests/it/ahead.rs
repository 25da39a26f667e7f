//! Passes over a whole set ask a slow source ahead, as the loader does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use resnet_io::pack::{PackOptions, pack};
use resnet_io::source::{
    Asked, DataSet, Encoded, Generated, GeneratedSpec, GeneratedSplit, Source,
};
use resnet_io::survey::{Measured, Statistics, survey};
use resnet_io::{DataError, readable};

/// A source that brings what is asked for, and counts.
struct Slow {
    source: Generated,
    held: Arc<Mutex<HashMap<usize, usize>>>,
    most_held: AtomicUsize,
    reads: AtomicUsize,
    unasked: AtomicUsize,
}

impl Slow {
    fn new(images: usize) -> Arc<Slow> {
        let spec = GeneratedSpec::parse(&format!("classes=3,images={images},size=16")).unwrap();
        Arc::new(Slow {
            source: Generated::new(&spec, GeneratedSplit::Train),
            held: Arc::default(),
            most_held: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            unasked: AtomicUsize::new(0),
        })
    }

    /// Each sample was read once, all of them asked for before, never many at a time, and none is held on to.
    #[track_caller]
    fn check(&self) {
        assert_eq!(self.reads.swap(0, Ordering::Relaxed), self.len());
        assert_eq!(self.unasked.load(Ordering::Relaxed), 0);
        let most = self.most_held.swap(0, Ordering::Relaxed);
        assert!((2..=256).contains(&most), "{most} samples held at once");
        assert!(self.held.lock().unwrap().is_empty());
    }
}

struct Held(Arc<Mutex<HashMap<usize, usize>>>, Vec<usize>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.0.lock().unwrap();
        for index in &self.1 {
            let count = held.get_mut(index).unwrap();
            *count -= 1;
            if *count == 0 {
                held.remove(index);
            }
        }
    }
}

impl Source for Slow {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.source.label(index)
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn id(&self, index: usize) -> u64 {
        self.source.id(index)
    }

    fn ask(&self, samples: &[usize]) -> Option<Asked> {
        let mut held = self.held.lock().unwrap();
        samples.iter().for_each(|&index| *held.entry(index).or_default() += 1);
        self.most_held.fetch_max(held.len(), Ordering::Relaxed);
        Some(Asked::new(Held(self.held.clone(), samples.to_vec())))
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let is_held = self.held.lock().unwrap().contains_key(&index);
        self.unasked.fetch_add(usize::from(!is_held), Ordering::Relaxed);
        self.source.read(index)
    }
}

#[test]
fn surveys_packing_and_strict_reading_ask_before_they_read() {
    for images in [3, 300] {
        let slow = Slow::new(images);
        let set = DataSet { train: Some(slow.clone()), ..DataSet::default() };
        let survey = survey(&set, 2, &|| {});
        assert_eq!(survey.pictures.len(), slow.len());
        for (index, picture) in survey.pictures.iter().enumerate() {
            assert_eq!(picture.path, slow.name(index), "in their order");
            assert!(matches!(picture.measured, Measured::Good(_)));
        }
        slow.check();
        let out = tempfile::tempdir().unwrap();
        let options = PackOptions {
            out: out.path().into(),
            side: None,
            quality: 90,
            shard_images: 130,
            threads: 2,
        };
        let report = pack(&set, &options, &|_| {}).unwrap();
        assert_eq!(report.images, slow.len());
        slow.check();
        assert_eq!(Statistics::of(slow.as_ref(), 2, &|| {}).images, slow.len() as u64);
        slow.check();
        readable::check(slow.as_ref(), 2).unwrap();
        slow.check();
    }
}
