//! Clocks, timers, tasks, and the wake-up from other threads.

use crate::harness::*;
use engine::io::driver::{Driver, Remote};
use engine::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

crate::each!(time:
    m_072_the_clock_is_monotonic_and_everyones
    timers_fire_in_order_and_never_early
    a_timer_in_the_past_completes
    a_thousand_timers_fire_and_dropped_ones_do_not_matter
    yielding_lets_everything_that_is_ready_run
    spawned_tasks_end_with_the_driver
    random_octets_differ
    a_wake_up_before_the_wait_counts_and_is_used_up
    no_wake_up_from_another_thread_is_lost
    wake_ups_after_the_driver_has_ended_do_nothing
);

pub fn m_072_the_clock_is_monotonic_and_everyones<U: Under>() {
    U::run(async move |driver| {
        let mut last = driver.now();
        for _ in 0..100 {
            let (turn, precise) = (driver.now(), driver.precise_now());
            assert!(turn >= last && precise >= turn);
            last = turn;
            driver.yield_now().await;
        }
        let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let monotonic = Tick(monotonic.tv_sec as u64 * 1_000_000_000 + monotonic.tv_nsec as u64);
        assert!(monotonic >= last && monotonic.since(last) < Span::seconds(30), "not CLOCK_MONOTONIC");
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros() as i64;
        assert!((wall - driver.wall().0).abs() < 30_000_000, "not the wall clock");
    });
}

pub fn timers_fire_in_order_and_never_early<U: Under>() {
    U::run(async move |driver| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let begin = driver.precise_now();
        for millis in [40, 5, 25, 60, 15] {
            let (driver_too, order) = (driver.clone(), order.clone());
            driver.spawn(async move {
                driver_too.sleep_until(begin + Span::millis(millis)).await;
                assert!(driver_too.precise_now() >= begin + Span::millis(millis), "early");
                order.borrow_mut().push(millis);
            });
        }
        driver.sleep(Span::millis(60)).await;
        until(&driver, || order.borrow().len() == 5).await;
        assert_eq!(*order.borrow(), [5, 15, 25, 40, 60]);
        assert!(driver.precise_now().since(begin) < Span::seconds(30), "a timer overslept");
    });
}

pub fn a_timer_in_the_past_completes<U: Under>() {
    U::run(async move |driver| {
        driver.sleep_until(Tick(0)).await;
        driver.sleep_until(driver.now()).await;
        driver.sleep(Span::ZERO).await;
        assert!(poll_once(driver.sleep_until(Tick::NEVER)).is_pending());
    });
}

pub fn a_thousand_timers_fire_and_dropped_ones_do_not_matter<U: Under>() {
    U::run(async move |driver| {
        let fired = Rc::new(Cell::new(0));
        for index in 0..1000_u64 {
            let (driver_too, fired) = (driver.clone(), fired.clone());
            driver.spawn(async move {
                let _ = poll_once(driver_too.sleep(Span::millis(index % 7)));
                let _ = poll_once(driver_too.sleep(Span::hours(index)));
                driver_too.sleep(Span::micros(index * 37)).await;
                fired.set(fired.get() + 1);
            });
        }
        until(&driver, || fired.get() == 1000).await;
    });
}

pub fn yielding_lets_everything_that_is_ready_run<U: Under>() {
    U::run(async move |driver| {
        let ran = Rc::new(Cell::new(0));
        let spawn_many = |driver: &U::Driver| {
            for _ in 0..300 {
                let ran = ran.clone();
                driver.spawn(async move { ran.set(ran.get() + 1) });
            }
        };
        spawn_many(&driver);
        driver.yield_now().await;
        assert_eq!(ran.get(), 300);
        // The same from inside a task.
        let (driver_too, seen, counted) = (driver.clone(), Rc::new(Cell::new(0)), ran.clone());
        let result = seen.clone();
        driver.spawn(async move {
            for _ in 0..300 {
                let counted = counted.clone();
                driver_too.spawn(async move { counted.set(counted.get() + 1) });
            }
            driver_too.yield_now().await;
            seen.set(counted.get());
        });
        until(&driver, || result.get() != 0).await;
        assert_eq!(result.get(), 600);
    });
}

pub fn spawned_tasks_end_with_the_driver<U: Under>() {
    struct Told(Arc<AtomicU64>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let ended = Arc::new(AtomicU64::new(0));
    let count = ended.clone();
    let told = move || Told(count.clone());
    U::run(async move |driver| {
        for _ in 0..5 {
            let (told, driver_too) = (told(), driver.clone());
            driver.spawn(async move {
                driver_too.sleep(Span::hours(1)).await;
                drop(told);
            });
        }
        driver.yield_now().await;
        let told = told();
        driver.spawn(async move { drop(told) }); // may never have run
    });
    assert_eq!(ended.load(Ordering::SeqCst), 6);
}

pub fn random_octets_differ<U: Under>() {
    U::run(async move |driver| {
        let mut buffers = [[0_u8; 600]; 3];
        buffers.iter_mut().for_each(|buffer| driver.random(buffer));
        assert!(buffers[0] != buffers[1] && buffers[1] != buffers[2]);
        for buffer in buffers {
            for part in buffer.chunks(60) {
                assert!(part.iter().any(|&octet| octet != 0), "a part was not filled");
            }
        }
        driver.random(&mut []);
    });
}

pub fn a_wake_up_before_the_wait_counts_and_is_used_up<U: Under>() {
    U::run(async move |driver| {
        driver.remote().wake();
        driver.remote().wake();
        driver.woken().await;
        let limit = driver.precise_now() + QUIET;
        while driver.precise_now() < limit {
            assert!(poll_once(driver.woken()).is_pending(), "woken by nobody");
            driver.sleep(Span::millis(10)).await;
        }
        // A dropped wait does not use up what comes after it.
        let remote = driver.remote();
        std::thread::spawn(move || remote.wake()).join().expect("no panic");
        driver.woken().await;
    });
}

pub fn no_wake_up_from_another_thread_is_lost<U: Under>() {
    const THREADS: u64 = 3;
    const WAKES: u64 = 20_000;
    U::run(async move |driver| {
        let sum = Arc::new(AtomicU64::new(0));
        for index in 0..THREADS {
            let (sum, remote) = (sum.clone(), driver.remote());
            std::thread::spawn(move || {
                for round in 0..WAKES {
                    sum.fetch_add(1, Ordering::Release);
                    remote.wake();
                    // The driver is to be asleep for some of them, and busy for others.
                    if round % (64 << index) == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut wakes = 0;
        while sum.load(Ordering::Acquire) < THREADS * WAKES {
            driver.woken().await;
            wakes += 1;
        }
        assert!(wakes > 0);
    });
    // Ping and pong: each side sleeps until the other wakes it.
    U::run(async move |driver| {
        let (there, remote) = (Arc::new(AtomicU64::new(0)), driver.remote());
        let (pings, ping) = std::sync::mpsc::channel::<u64>();
        let pong = there.clone();
        let thread = std::thread::spawn(move || {
            for value in ping {
                pong.store(value, Ordering::Release);
                remote.wake();
            }
        });
        for value in 1..=5_000 {
            pings.send(value).expect("it listens");
            while there.load(Ordering::Acquire) != value {
                driver.woken().await;
            }
        }
        drop(pings);
        thread.join().expect("no panic");
    });
}

pub fn wake_ups_after_the_driver_has_ended_do_nothing<U: Under>() {
    let (out, remotes) = std::sync::mpsc::channel();
    U::run(async move |driver| out.send(driver.remote()).expect("awaited"));
    let remote = remotes.recv().expect("ran");
    remote.wake();
    std::thread::spawn(move || remote.wake()).join().expect("no panic");
}
