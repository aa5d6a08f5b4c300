//! SIGINT and SIGTERM of a program that measures: stop cleanly, keep and print what was measured; a second one ends it at once.

use std::io;
use std::time::{Duration, Instant};

/// Signals this near to the first are that one: `timeout` and terminals tell a process and its group, both in one go.
const SAME_WORD: Duration = Duration::from_millis(300);

/// Calls `stop` on a thread of its own at the first SIGINT or SIGTERM from now on, and ends the program at the second.
///
/// # Errors
/// When the system has no thread or no signal handler for us.
pub fn on_interrupt(stop: impl Fn() + Send + 'static) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let mut asked: Option<Instant> = None;
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                match asked {
                    None => stop(),
                    Some(at) if at.elapsed() < SAME_WORD => {}
                    Some(_) => std::process::exit(130),
                }
                asked.get_or_insert_with(Instant::now);
            }
        });
    })?;
    Ok(())
}
