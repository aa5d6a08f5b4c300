//! Space that comes back while mail stays.

use super::*;

/// Whose mail the next hop puts off.
const STAYS: &str = "stays@a.test";
/// How much of it there is in each round, among so many others.
const STAYING: usize = 3;
const LEAVING: usize = 100;

/// A next hop that takes no mail of [`STAYS`].
fn putting_off(driver: &Epoll) -> SocketAddr {
    next_hop(driver, |command| match command {
        "DATA" => "354 go on\r\n",
        _ if command.starts_with("MAIL") && command.contains(STAYS) => "450 4.2.0 not now\r\n",
        _ => "250 2.0.0 fine\r\n",
    })
}

impl World {
    /// About as much mail as a segment holds, of which some stays; waits until the rest has left.
    async fn round(&self) {
        let content = format!("Subject: x\r\n\r\n{}", "0123456789abcdef\r\n".repeat(600));
        let before = self.counts.read(Counter::Delivered);
        send_each(&self.driver, self.at, (STAYS, &content), STAYING).await;
        send_each(&self.driver, self.at, ("ann@a.test", &content), LEAVING).await;
        let delivered = || self.counts.read(Counter::Delivered) == before + LEAVING as u64;
        self.wait_until("what leaves is delivered", delivered).await;
    }
}

fn live(folder: &Path) -> usize {
    let left = recover::recover(folder, DriverChoice::Epoll, 1).expect("it is read");
    left.recovered.adoptions.iter().map(spool::Adoption::live_count).sum()
}

/// A few messages in each segment that nobody takes do not keep the segments; and a hub that is killed meanwhile has
/// every one of them, once.
#[test]
fn p_013_mail_that_stays_keeps_no_segment_and_is_there_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, mut stays) = (folder.path().to_owned(), 0);
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver, &path);
        world.hub.install_routes(routes("sink", &[putting_off(&world.driver)]));
        let rewritten = || world.counts.read(Counter::SegmentsRewritten);
        let two_free = || world.hub.log.borrow().surplus(1).is_some();
        for _ in 0..8 {
            world.round().await;
        }
        world.wait_until("segments to be rewritten", || rewritten() >= 2 && two_free()).await;
        let files = world.hub.files.borrow().len();
        for _ in 0..6 {
            world.round().await;
            world.wait_until("segments to be free", two_free).await;
        }
        stays = 14 * STAYING;
        // One more for what moves, and one where a round meets two ends; without all this there would be six.
        assert!(
            world.hub.files.borrow().len() <= files + 2,
            "{} files, {files} before",
            world.hub.files.borrow().len()
        );
        assert!(rewritten() >= 4, "{}", rewritten());
        assert!(world.counts.read(Counter::RewrittenBytes) > 0);
        assert_eq!(world.hub.queued() as usize, stays);
        let settled = || world.hub.can_settle() && world.hub.unsynced_settles().0 == 0;
        world.wait_until("what is known to be written", settled).await;
    })
    .expect("runs");
    assert_eq!(live(folder.path()), stays);
}
