//! How a test is run on a driver.

use engine::io::driver::Driver;

/// What does the I/O of a test: its type, and how a thread runs it.
pub trait Under: 'static {
    type Driver: Driver;
    fn run<F, Fut>(f: F)
    where
        F: FnOnce(Self::Driver) -> Fut,
        Fut: Future<Output = ()> + 'static;
}
