//! SIGINT and SIGTERM: stop cleanly, keep and print what was measured.

use std::io;

/// Calls `stop` on a thread of its own at every SIGINT or SIGTERM from now on.
///
/// # Errors
/// When the system has no thread or no signal handler for us.
pub(super) fn on_interrupt(stop: impl Fn() + Send + 'static) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                stop();
            }
        });
    })?;
    Ok(())
}
