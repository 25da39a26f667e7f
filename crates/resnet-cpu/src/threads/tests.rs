//! Tests of the thread pool.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::*;

/// Every task of every job runs exactly once, and is seen by the caller.
#[track_caller]
fn check(threads: usize, tasks: usize, joins: usize) {
    let pool = ThreadPool::new(threads);
    let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
    for join in 1..=joins {
        pool.run(tasks, &|task| {
            counts[task].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) as usize == join));
    }
}

#[test]
fn every_task_runs_once_for_one_to_eight_threads() {
    for threads in 0..=8 {
        for tasks in [0, 1, 2, 3, 7, 100] {
            check(threads, tasks, 50);
        }
    }
}

#[test]
fn many_joins_of_small_jobs_come_back() {
    check(2, 4, 20_000);
    check(5, 5, 2_000);
}

#[test]
fn jobs_after_the_workers_fell_asleep_run_too() {
    let pool = ThreadPool::new(3);
    for _ in 0..20 {
        let done = AtomicUsize::new(0);
        pool.run(6, &|_| {
            let start = Instant::now();
            while start.elapsed() < AWAKE * 2 {
                std::thread::yield_now();
            }
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 6);
        // Longer than any wait stays awake, without a sleep of our own.
        let start = Instant::now();
        while start.elapsed() < AWAKE * 3 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn no_two_tasks_run_at_once_with_the_same_thread_number() {
    let pool = ThreadPool::new(4);
    let busy: Vec<AtomicBool> = (0..pool.threads()).map(|_| AtomicBool::new(false)).collect();
    for _ in 0..200 {
        pool.run_with_thread(16, &|thread, _| {
            assert!(!busy[thread].swap(true, Ordering::SeqCst));
            std::hint::spin_loop();
            busy[thread].store(false, Ordering::SeqCst);
        });
    }
}

#[test]
fn several_callers_take_turns() {
    let pool = ThreadPool::new(2);
    let sum = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    pool.run(8, &|task| {
                        sum.fetch_add(task, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), 3 * 200 * 28);
}

#[test]
fn a_nested_job_runs_on_the_thread_that_asked() {
    let pool = ThreadPool::new(3);
    let sum = AtomicUsize::new(0);
    pool.run(4, &|_| {
        let me = std::thread::current().id();
        pool.run(10, &|task| {
            assert_eq!(me, std::thread::current().id());
            sum.fetch_add(task, Ordering::Relaxed);
        });
    });
    assert_eq!(sum.into_inner(), 4 * 45);
}

/// Whether `f` panics, on a thread of its own.
fn panics(f: impl FnOnce() + Send) -> bool {
    std::thread::scope(|scope| scope.spawn(f).join().is_err())
}

#[test]
fn a_panic_in_any_task_reaches_the_caller_and_the_pool_lives_on() {
    let pool = ThreadPool::new(4);
    for bad in [0, 1, 5, 31] {
        assert!(panics(|| pool.run(32, &|task| assert!(task != bad, "as the test wants"))));
        let done = AtomicUsize::new(0);
        pool.run(32, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 32);
    }
    // Also when every thread has panicked.
    assert!(panics(|| pool.run(64, &|_| panic!("as the test wants"))));
    let done = AtomicUsize::new(0);
    pool.run(3, &|_| {
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.into_inner(), 3);
}

#[test]
fn run_with_thread_refuses_to_be_nested() {
    let pool = ThreadPool::new(2);
    assert!(panics(|| pool.run(4, &|_| pool.run_with_thread(2, &|_, _| ()))));
    assert!(!panics(|| pool.run_with_thread(2, &|_, _| ())));
}

#[test]
fn parts_of_a_slice_are_written_by_several_threads() {
    let pool = ThreadPool::new(3);
    let mut numbers = vec![0_usize; 1000];
    let parts = DisjointMut::new(&mut numbers);
    pool.run(10, &|task| {
        // SAFETY: tasks are distinct, so their ranges do not overlap.
        let part = unsafe { parts.slice(task * 100..(task + 1) * 100) };
        part.iter_mut().enumerate().for_each(|(i, x)| *x = task * 100 + i);
    });
    assert!(numbers.iter().enumerate().all(|(i, &x)| i == x));
}
