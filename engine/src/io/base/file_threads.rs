//! File work on tokio's blocking threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A file or folder: closed with the last clone, wherever that is.
pub(crate) type Shared = Arc<OwnedFd>;

/// Does `work` on a file thread. What it owns stays alive until it is done, whatever becomes of the future.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // Only a runtime that is being torn down cancels: nobody is left to hear of it.
        Err(_) => std::future::pending().await,
    }
}

/// `run` for one call on a file or folder and one name.
pub(crate) async fn named<T: Send + 'static>(
    at: &Shared,
    name: &str,
    work: impl FnOnce(BorrowedFd<'_>, &str) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (at, name) = (at.clone(), name.to_owned());
    run(move || work(at.as_fd(), &name)).await
}
