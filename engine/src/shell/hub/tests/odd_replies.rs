//! Next hops whose replies come at odd times.

use super::*;
use crate::route::Manners;

/// A next hop that answers the first body before it came: `early` in place of the 354; then it does as it should. It tells
/// how many bodies it has seen.
fn hasty(driver: &Epoll, early: &'static str, bodies: &Rc<Cell<u32>>) -> SocketAddr {
    let (mut early, mut in_body, bodies) = (Some(early), false, bodies.clone());
    next_hop(driver, move |command| {
        if std::mem::take(&mut in_body) {
            bodies.set(bodies.get() + 1);
        }
        match command {
            "DATA" => {
                in_body = true;
                early.take().unwrap_or("354 go on\r\n")
            }
            _ if command.starts_with("LHLO") => "250-scripted.test\r\n250 PIPELINING\r\n",
            _ => "250 2.0.0 fine\r\n",
        }
    })
}

/// F-081, M-213: by LMTP too a reply for a recipient that comes before the content is no verdict on it.
#[test]
fn f_081_by_lmtp_a_recipients_reply_before_the_content_is_no_delivery() {
    let folder = tempfile::tempdir().expect("a folder");
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver.clone(), folder.path());
        let bodies = Rc::new(Cell::new(0));
        let at = hasty(&driver, "354 go on\r\n250 2.0.0 taken\r\n", &bodies);
        let plain = routes("store", &[at]);
        let manners = vec![Manners { lmtp: true, ..Manners::default() }];
        world.hub.install_routes(Arc::new(Snapshot { table: plain.table.clone(), manners, ..Snapshot::default() }));
        world.send(1).await;
        world.wait_until("it is delivered", || world.counts.read(Counter::Delivered) == 1).await;
        assert!(bodies.get() >= 1, "250 before the content is no delivery");
        assert_eq!(world.counts.read(Counter::Unknown), 1, "what the first one meant is not known");
    })
    .expect("runs");
}
