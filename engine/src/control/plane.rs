//! The control plane at work: one task that hears everything and owns all its state.

use super::held::Held;
use super::names::{Lookups, News};
use super::socket::{Operation, Operator};
use super::status::Facts;
use super::{
    Control, ControlError, FRESH, Fallen, Parts, REPORT_WAIT, RESOLVE_EVERY, RESOLVE_SOON, STUCK_WAIT, Serving,
    Signals, log,
    metrics::{self, Metrics},
    remove_socket, routes, socket,
};
use crate::route::{HUBS, Snapshot};
use crate::settings::{Durability, Role, Settings};
use crate::track::counters::Board;
use crate::track::desk::{ControlDesk, Failure, Notice, Order, Ready};
use crate::track::report::{MessagePage, Reload, Removed, ShardReport, Status};
use crate::wire::{NextHopKey, Span};
use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// How often the plane looks after what nobody announces.
const TICK: Duration = Duration::from_millis(200);
/// People who wait for a status at once.
const ASKING_MAX: usize = 64;
/// How long a shard may take for what it is to do and to write down.
const ANSWER_WAIT: Duration = Duration::from_secs(8);
/// How long the shards' threads may take to end after the last of them has stopped.
const JOIN_WAIT: Duration = Duration::from_secs(2);

/// Who waits for a status.
type Asking = oneshot::Sender<Option<Arc<Status>>>;

/// What a person wants of the plane.
enum Wish {
    Status(Asking),
    Operate(Operation, oneshot::Sender<Result<(), String>>),
    Page(usize, u32, oneshot::Sender<MessagePage>),
    Remove(usize, Removal, oneshot::Sender<Vec<Removed>>),
}

/// Messages to be taken out, and whether their senders are told.
type Removal = (Arc<[(u32, u32)]>, bool);

/// Who waits for a shard's answer, and until when.
enum Awaited {
    Page(oneshot::Sender<MessagePage>),
    Removed(oneshot::Sender<Vec<Removed>>),
}

/// The way by which the admin socket and metrics reach the plane.
#[derive(Clone)]
struct Door(mpsc::Sender<Wish>);

impl Operator for Door {
    async fn status(&self) -> Option<Arc<Status>> {
        let (sender, answer) = oneshot::channel();
        self.0.send(Wish::Status(sender)).await.ok()?;
        answer.await.ok().flatten()
    }

    async fn operate(&self, operation: Operation) -> Option<Result<(), String>> {
        let (sender, answer) = oneshot::channel();
        self.0.send(Wish::Operate(operation, sender)).await.ok()?;
        answer.await.ok()
    }

    async fn page(&self, shard: usize, page: u32) -> Option<MessagePage> {
        let (sender, answer) = oneshot::channel();
        self.0.send(Wish::Page(shard, page, sender)).await.ok()?;
        answer.await.ok()
    }

    async fn remove(&self, shard: usize, entries: Vec<(u32, u32)>, tells: bool) -> Option<Vec<Removed>> {
        let (sender, answer) = oneshot::channel();
        self.0.send(Wish::Remove(shard, (entries.into(), tells), sender)).await.ok()?;
        answer.await.ok()
    }
}

struct Plane {
    settings: Arc<Settings>,
    /// Whose routes are published: the settings of the start, or of the last reload.
    routes: Arc<Settings>,
    reload: Box<dyn FnMut() -> Result<Settings, String> + Send>,
    version: &'static str,
    git: Option<&'static str>,
    board: Board,
    desks: Vec<ControlDesk>,
    woken: Arc<Notify>,
    published: Arc<ArcSwap<Snapshot>>,
    driver: &'static str,
    began: Instant,
    state: State,
    shards: Vec<Shard>,
    /// Shards that have not been told yet, because their desk was full.
    untold: Vec<(usize, Order)>,
    reloads: Reload,
    lookups: Lookups,
    held: Held,
    /// When names that were found since are published.
    publish_at: Option<Instant>,
    resolve_at: Instant,
    gathering: Option<Gathering>,
    ticket: u64,
    /// Single answers on their way, by their tickets.
    awaited: BTreeMap<u64, (Instant, Awaited)>,
    last: Option<(Instant, Arc<Status>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Serving,
    Draining { until: Instant },
}

#[derive(Debug, Clone, Default)]
struct Shard {
    ready: Option<Ready>,
    stopped: bool,
}

/// Reports on their way.
struct Gathering {
    ticket: u64,
    until: Instant,
    reports: Vec<Option<ShardReport>>,
    asking: Vec<Asking>,
}

/// What the plane heard.
enum Heard {
    Desks,
    Wish(Option<Wish>),
    End,
    Hangup,
    Names(News),
    Tick,
    /// Every shard's thread ended, or one failed.
    Joined(Result<(), Fallen>),
}

/// Runs a prepared control plane to its end.
pub(super) fn run(
    control: Control,
    driver: &'static str,
    join: impl FnOnce() -> Result<(), Fallen> + Send + 'static,
    ready: impl FnOnce(&Serving),
) -> Result<(), ControlError> {
    let (joined, join_end) = oneshot::channel();
    std::thread::Builder::new().name("join".into()).spawn(move || {
        // Nobody listens any more when the deadline passed first.
        let _late = joined.send(join());
    })?;
    let Control { runtime, parts, signals, admin, metrics } = control;
    let mut plane = Plane::new(parts, driver);
    let (wishes, wished) = mpsc::channel(ASKING_MAX);
    let ended = runtime.block_on(async {
        if let Some(listener) = admin {
            tokio::spawn(socket::serve(listener, Door(wishes.clone())));
        }
        let bound = metrics.as_ref().map(|(_, bound)| *bound);
        if let Some((listener, _)) = metrics {
            let metrics = Metrics::new(plane.board.clone(), plane.facts());
            tokio::spawn(async move {
                let door = Door(wishes);
                let ask = move || {
                    let door = door.clone();
                    async move { door.status().await }
                };
                if let Err(error) = metrics::serve(listener, metrics, ask).await {
                    tracing::error!(cause = "metrics", %error, "metrics ended");
                }
            });
        }
        plane.live(signals, wished, join_end, bound, ready).await
    });
    remove_socket(&plane.settings);
    runtime.shutdown_background();
    ended
}

impl Plane {
    fn new(parts: Parts, driver: &'static str) -> Plane {
        let now = Instant::now();
        Plane {
            routes: parts.settings.clone(),
            shards: vec![Shard::default(); parts.desks.len()],
            settings: parts.settings,
            reload: parts.reload,
            version: parts.version,
            git: parts.git,
            board: parts.board,
            desks: parts.desks,
            woken: parts.woken,
            published: parts.published,
            driver,
            began: now,
            state: State::Starting,
            untold: Vec::new(),
            reloads: Reload::default(),
            lookups: parts.lookups,
            held: parts.held,
            publish_at: None,
            resolve_at: now + RESOLVE_SOON,
            gathering: None,
            ticket: 0,
            awaited: BTreeMap::new(),
            last: None,
        }
    }

    async fn live(
        &mut self,
        mut signals: Signals,
        mut wished: mpsc::Receiver<Wish>,
        mut joined: oneshot::Receiver<Result<(), Fallen>>,
        metrics: Option<SocketAddr>,
        ready: impl FnOnce(&Serving),
    ) -> Result<(), ControlError> {
        let mut ready = Some(ready);
        let mut ends = 0;
        loop {
            match self.hear(&mut signals, &mut wished, &mut joined).await {
                Heard::Desks => self.take_notices()?,
                Heard::Wish(Some(Wish::Status(asking))) => self.asked(asking),
                Heard::Wish(Some(Wish::Operate(operation, answer))) => {
                    // Who asked may have left.
                    let _left = answer.send(self.operate(&operation));
                }
                Heard::Wish(Some(Wish::Page(shard, page, answer))) => {
                    self.ask_shard(shard, |ticket| Order::Page(ticket, page), Awaited::Page(answer));
                }
                Heard::Wish(Some(Wish::Remove(shard, (entries, tells), answer))) => {
                    self.ask_shard(shard, |ticket| Order::Remove(ticket, entries, tells), Awaited::Removed(answer));
                }
                Heard::Wish(None) | Heard::Tick => {}
                Heard::Names(news) => self.resolved(news),
                Heard::Hangup => self.hangup(),
                Heard::Joined(result) => return self.joined(result),
                Heard::End => {
                    ends += 1;
                    if ends > 1 {
                        tracing::warn!("told twice to end: leaving at once, with the mail on disk");
                        return Err(ControlError::Late(self.running()));
                    }
                    self.drain();
                }
            }
            self.look_after();
            if self.state == State::Starting && self.shards.iter().all(|shard| shard.ready.is_some()) {
                self.state = State::Serving;
                if let Some(ready) = ready.take() {
                    ready(&self.serving(metrics));
                    notify(&[NotifyState::Ready]);
                }
            }
            if let State::Draining { until } = self.state {
                if self.running().is_empty() {
                    return self.join(joined).await;
                }
                if Instant::now() >= until {
                    return Err(ControlError::Late(self.running()));
                }
            }
        }
    }

    async fn hear(
        &mut self,
        signals: &mut Signals,
        wished: &mut mpsc::Receiver<Wish>,
        joined: &mut oneshot::Receiver<Result<(), Fallen>>,
    ) -> Heard {
        let woken = self.woken.clone();
        let Signals { terminate, interrupt, hangup } = signals;
        tokio::select! {
            biased;
            () = woken.notified() => Heard::Desks,
            _ = hangup.recv() => Heard::Hangup,
            _ = terminate.recv() => Heard::End,
            _ = interrupt.recv() => Heard::End,
            // Nothing is said where the thread that waits for them is gone: so are they.
            result = joined => Heard::Joined(result.unwrap_or(Ok(()))),
            news = self.lookups.next() => Heard::Names(news),
            wish = wished.recv(), if !wished.is_closed() => Heard::Wish(wish),
            () = sleep_until(Instant::now() + TICK) => Heard::Tick,
        }
    }

    fn take_notices(&mut self) -> Result<(), ControlError> {
        for index in 0..self.desks.len() {
            while let Some(notice) = self.desks.get(index).and_then(ControlDesk::take) {
                self.notice(index, notice)?;
            }
        }
        Ok(())
    }

    fn notice(&mut self, index: usize, notice: Notice) -> Result<(), ControlError> {
        let Some(shard) = self.shards.get_mut(index) else { return Ok(()) };
        match notice {
            Notice::Ready(ready) => shard.ready = Some(ready),
            Notice::Stopped { left } => {
                shard.stopped = true;
                tracing::info!(shard = index, left, "stopped");
                if left > 0 && self.settings.server.durability == Durability::None {
                    tracing::warn!(
                        shard = index,
                        "{left} messages were in memory alone (durability none), and are gone"
                    );
                }
            }
            Notice::Failed(Failure { usage: true, text }) => return Err(ControlError::Usage(text)),
            Notice::Failed(Failure { usage: false, text }) => return Err(ControlError::Died(text)),
            Notice::Report(ticket, report) => self.reported(index, ticket, *report),
            Notice::Page(ticket, page) => {
                if let Some((_, Awaited::Page(answer))) = self.awaited.remove(&ticket) {
                    // Who asked may have left.
                    let _left = answer.send(*page);
                }
            }
            Notice::Removed(ticket, removed) => {
                if let Some((_, Awaited::Removed(answer))) = self.awaited.remove(&ticket) {
                    let _left = answer.send(removed);
                }
            }
        }
        Ok(())
    }

    /// Shards that serve or drain.
    fn running(&self) -> Vec<usize> {
        (0..self.shards.len()).filter(|index| self.shards.get(*index).is_some_and(|shard| !shard.stopped)).collect()
    }

    fn serving(&self, metrics: Option<SocketAddr>) -> Serving {
        let all = || self.shards.iter().filter_map(|shard| shard.ready.as_ref());
        let mut listen: Vec<SocketAddr> = Vec::new();
        for address in all().flat_map(|ready| &ready.listen) {
            if !listen.contains(address) {
                listen.push(*address);
            }
        }
        Serving { listen, metrics, driver: self.driver, commit: all().find_map(|ready| ready.commit) }
    }

    // Ending.

    fn drain(&mut self) {
        let wait = self.settings.server.drain_wait;
        tracing::info!(within = %wait, "draining");
        notify(&[NotifyState::Stopping]);
        self.state = State::Draining { until: Instant::now() + Duration::from_nanos(wait.0) + STUCK_WAIT };
        self.tell_all(Order::Drain(Span(wait.0)));
    }

    /// The threads ended while somebody still should run, or one did.
    fn joined(&mut self, result: Result<(), Fallen>) -> Result<(), ControlError> {
        self.take_notices()?;
        match (result, self.running().as_slice(), self.state) {
            (Err(error), ..) => Err(died(&error)),
            (Ok(()), [], State::Draining { .. }) => Ok(()),
            (Ok(()), ..) => Err(ControlError::Died("the shards ended by themselves".into())),
        }
    }

    async fn join(&self, joined: oneshot::Receiver<Result<(), Fallen>>) -> Result<(), ControlError> {
        match tokio::time::timeout(JOIN_WAIT, joined).await {
            Ok(Ok(Err(error))) => Err(died(&error)),
            // All have stopped; a thread that lingers holds nothing that matters.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Gives `order` to every shard; to one whose desk is full, later.
    fn tell_all(&mut self, order: Order) {
        self.untold.retain(|(_, waiting)| *waiting != order);
        self.untold.extend((0..self.desks.len()).map(|index| (index, order.clone())));
        self.tell();
    }

    fn tell(&mut self) {
        let desks = &self.desks;
        self.untold.retain(|(index, order)| desks.get(*index).is_some_and(|desk| desk.order(order.clone()).is_err()));
    }

    // Routes.

    /// What no event announces: orders not yet given, names to ask for, reports that are late, the log's own account.
    fn look_after(&mut self) {
        self.tell();
        let now = Instant::now();
        self.publish_found(now);
        if now >= self.resolve_at {
            self.resolve();
        }
        if self.gathering.as_ref().is_some_and(|gathering| now >= gathering.until) {
            self.gathered();
        }
        self.awaited.retain(|_, (until, _)| now < *until);
        log::start(&self.settings.log).say_what_was_left_out_since();
    }

    fn resolve(&mut self) {
        // With look-ups under way, the next round begins when they are back.
        if self.lookups.begin(&self.routes) {
            self.resolve_at = Instant::now() + RESOLVE_EVERY;
        }
    }

    fn resolved(&mut self, news: News) {
        let now = Instant::now();
        match news {
            // More may come soon.
            News::Answer => drop(self.publish_at.get_or_insert(now + TICK)),
            News::Ended => {
                self.publish(Snapshot::says_the_same);
                if !self.published.load().unresolved.is_empty() {
                    self.resolve_at = self.resolve_at.min(now + RESOLVE_SOON);
                }
            }
        }
    }

    /// What a round has found so far counts, long before who does not answer is given up.
    fn publish_found(&mut self, now: Instant) {
        if self.publish_at.is_some_and(|at| now >= at) {
            // In which order a resolver names the same addresses, as many do in turns, is no news before the end of a round.
            self.publish(Snapshot::leads_to_the_same);
        }
    }

    /// Publishes the routes with what is known of names now, unless they are `old` by this measure.
    fn publish(&mut self, is_old: impl FnOnce(&Snapshot, &Snapshot) -> bool) {
        self.publish_at = None;
        let before = self.published.load_full();
        let known = |name: &str, port| self.lookups.names().addresses(name, port);
        let next = routes::snapshot(&self.routes, known, before.generation + 1);
        let next = Snapshot { suspended: self.held.names(), ..next };
        if is_old(&before, &next) {
            return;
        }
        tracing::info!(generation = next.generation, "new routes");
        self.published.store(Arc::new(next));
        self.tell_all(Order::Routes);
    }

    /// SIGHUP: the routes of the file as it is now, and with them the domains without a dot that they name. Anything wrong with it changes nothing (F-177).
    fn hangup(&mut self) {
        match (self.reload)() {
            Ok(fresh) => {
                let rest_is_same = with_routes_of(&fresh, &self.settings) == *self.settings;
                if !rest_is_same {
                    tracing::warn!("only routes are reloaded: what else the file changed needs a restart");
                }
                self.routes = Arc::new(with_routes_of(&self.settings, &fresh));
                self.reloads.done += 1;
                self.reloads.error = None;
                tracing::info!("configuration reloaded");
                // New names are asked for before anybody is sent to them; known ones stand at once.
                self.publish(Snapshot::says_the_same);
                self.resolve_at = Instant::now();
                self.resolve();
                self.lookups.begin_beside(&self.routes);
            }
            Err(error) => {
                tracing::error!(cause = "reload", %error, "configuration not reloaded, the old one holds");
                self.reloads.refused += 1;
                self.reloads.error = Some(error);
            }
        }
    }

    // Operations.

    /// Does what an operator asks for, and says so in the log; why not, in one line.
    fn operate(&mut self, operation: &Operation) -> Result<(), String> {
        let asked = operation.queue();
        let queue = self.queue_named(asked);
        let queue = queue.ok_or_else(|| format!("there is no queue {asked}; `ringpost queue list` names them all"))?;
        let queue = queue.as_str();
        match operation {
            Operation::Retry(_) => {
                tracing::info!(cause = "operator", queue, "a queue is to be tried at once");
                self.tell_all(Order::Retry(queue.into()));
            }
            Operation::Suspend(_) | Operation::Resume(_) => {
                let held = matches!(operation, Operation::Suspend(_));
                let changed = self.held.suspend(queue, held);
                let changed =
                    changed.map_err(|error| format!("it cannot be kept over a restart: {error}; mend that"))?;
                if changed {
                    tracing::info!(cause = "operator", queue, suspended = held, "a queue was suspended or let go");
                    self.publish(Snapshot::says_the_same);
                }
            }
        }
        // Whoever looks now sees what came of it.
        self.last = None;
        Ok(())
    }

    /// Gives one shard an order that it answers; who waits hears nothing when there is no such shard, or it is stuck.
    fn ask_shard(&mut self, shard: usize, order: impl FnOnce(u64) -> Order, awaited: Awaited) {
        self.ticket += 1;
        if self.desks.get(shard).is_some_and(|desk| desk.order(order(self.ticket)).is_ok()) {
            self.awaited.insert(self.ticket, (Instant::now() + ANSWER_WAIT, awaited));
        }
    }

    /// The queue of this name, in whatever case, that can have mail: by a route, because it has some, or because it is
    /// suspended.
    fn queue_named(&self, name: &str) -> Option<String> {
        if !self.settings.plays(Role::Hub) {
            return None;
        }
        let published = self.published.load();
        let unreachable = NextHopKey::unreachable().to_string();
        if name.eq_ignore_ascii_case("Unreachable") {
            return Some(unreachable);
        }
        let routed = published.table.keys_and_hosts().map(|(key, _)| key.to_string());
        let last = self.last.iter().flat_map(|(_, last)| &last.queues).map(|queue| queue.next_hop.clone());
        let seen = last.filter(|queue| queue != HUBS);
        let suspended = published.suspended.iter().cloned();
        routed.chain([unreachable]).chain(seen).chain(suspended).find(|known| known.eq_ignore_ascii_case(name))
    }

    // Status.

    fn asked(&mut self, asking: Asking) {
        if let Some((at, status)) = &self.last
            && at.elapsed() < FRESH
        {
            // Who asked may have left.
            let _left = asking.send(Some(status.clone()));
            return;
        }
        match &mut self.gathering {
            Some(gathering) => gathering.asking.push(asking),
            None => self.gather(asking),
        }
    }

    fn gather(&mut self, asking: Asking) {
        self.ticket += 1;
        // A shard whose desk is full is stuck; it counts as one that did not answer in time.
        for desk in &self.desks {
            let _stuck = desk.order(Order::Report(self.ticket));
        }
        self.gathering = Some(Gathering {
            ticket: self.ticket,
            until: Instant::now() + REPORT_WAIT,
            reports: vec![None; self.desks.len()],
            asking: vec![asking],
        });
    }

    fn reported(&mut self, index: usize, ticket: u64, report: ShardReport) {
        let Some(gathering) = self.gathering.as_mut().filter(|gathering| ticket == gathering.ticket) else { return };
        if let Some(place) = gathering.reports.get_mut(index) {
            *place = Some(report);
        }
        if gathering.reports.iter().all(Option::is_some) {
            self.gathered();
        }
    }

    fn gathered(&mut self) {
        let Some(gathering) = self.gathering.take() else { return };
        let serving = self.serving(None);
        let facts = Facts {
            settings: &self.settings,
            routes: &self.published.load(),
            board: &self.board,
            reports: &gathering.reports,
            listen: &serving.listen,
            state: match self.state {
                State::Starting => "starting",
                State::Serving => "serving",
                State::Draining { .. } => "draining",
            },
            uptime_s: self.began.elapsed().as_secs(),
            driver: self.driver,
            commit: serving.commit,
            reload: &self.reloads,
            version: self.version,
            git: self.git,
        };
        let status = Arc::new(facts.status());
        for asking in gathering.asking {
            let _left = asking.send(Some(status.clone()));
        }
        self.last = Some((Instant::now(), status));
    }

    /// What metrics say about the server itself.
    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("version", self.version.to_owned()),
            ("commit", self.git.unwrap_or("unknown").to_owned()),
            ("driver", self.driver.to_owned()),
            ("durability", self.settings.server.durability.to_string()),
            ("profile", self.settings.profile.to_string()),
        ]
    }
}

/// A shard is lost, and with it its mail until the next start: nothing goes on without it.
fn died(error: &Fallen) -> ControlError {
    tracing::error!(cause = "shard", shard = error.shard, error = %error.error, "a shard ended");
    ControlError::Died(error.to_string())
}

/// `settings` with the routes of `other`.
fn with_routes_of(settings: &Settings, other: &Settings) -> Settings {
    Settings {
        next_hops: other.next_hops.clone(),
        routes: other.routes.clone(),
        hubs: other.hubs.clone(),
        ..settings.clone()
    }
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(cause = "sd_notify", %error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Plan;
    use crate::settings::{Host, NextHop, Profile, Protocol};
    use std::future::pending;

    fn settings(hosts: Vec<Host>) -> Settings {
        let mut settings = Settings::of(Profile::Bench);
        settings.server.cores = vec![None];
        settings.next_hops.insert("smart".into(), NextHop::of(hosts, Protocol::Smtp));
        settings.routes.rest = Some("smart".into());
        settings
    }

    fn name(name: &str) -> Host {
        Host::Name(name.into(), 25)
    }

    /// A plane that publishes the routes of `settings` and would reload those of `fresh`.
    fn plane(settings: &Settings, fresh: &Settings) -> (tokio::runtime::Runtime, Plane) {
        let (settings, fresh) = (Arc::new(settings.clone()), fresh.clone());
        let plan = Plan { settings, reload: Box::new(move || Ok(fresh.clone())), version: "", git: None };
        let (control, _links) = Control::prepare(plan).expect("nothing is bound");
        (control.runtime, Plane::new(control.parts, "fake"))
    }

    fn published(plane: &Plane) -> Vec<SocketAddr> {
        let published = plane.published.load();
        published.table.next_hops().iter().flat_map(|hop| &hop.hosts).map(|host| host.address).collect()
    }

    #[test]
    fn f_177_new_routes_stand_at_once_while_names_are_still_asked_for() {
        let [old, new] = ["127.0.0.1:2600", "127.0.0.1:2601"].map(|text| text.parse().expect("an address"));
        let (before, fresh) = (settings(vec![Host::Address(old)]), settings(vec![Host::Address(new)]));
        let (runtime, mut plane) = plane(&before, &fresh);
        let _inside = runtime.enter();
        assert!(plane.lookups.begin_by(&settings(vec![name("dead.test")]), |_, _| pending()));
        plane.hangup();
        assert_eq!((published(&plane), plane.reloads.done), (vec![new], 1));
    }

    #[test]
    fn a_name_that_was_found_is_published_while_another_is_not_answered_for() {
        let address: SocketAddr = "10.0.0.1:25".parse().expect("an address");
        let nobody = settings(Vec::new());
        let (runtime, mut plane) = plane(&nobody, &nobody);
        let both = settings(vec![name("dead.test"), name("well.test")]);
        plane.routes = Arc::new(both.clone());
        runtime.block_on(async {
            let asked = move |name: String, _| async move {
                if name == "dead.test" {
                    pending::<()>().await;
                }
                Some(vec![address])
            };
            assert!(plane.lookups.begin_by(&both, asked));
            let news = plane.lookups.next().await;
            plane.resolved(news);
            plane.publish_found(plane.publish_at.expect("there is news"));
            assert_eq!((news, published(&plane)), (News::Answer, vec![address]));
        });
    }

    /// As many a resolver gives the addresses of one name: each time another comes first.
    #[test]
    fn addresses_in_another_order_are_published_with_the_end_of_a_round() {
        let turns = settings(vec![name("turns.test")]);
        let (runtime, mut plane) = plane(&settings(Vec::new()), &turns);
        plane.routes = Arc::new(turns.clone());
        let one: Vec<SocketAddr> = vec![([10, 0, 0, 1], 25).into(), ([10, 0, 0, 2], 25).into()];
        let other: Vec<SocketAddr> = one.iter().rev().copied().collect();
        runtime.block_on(async {
            for (answer, at_once) in [(&one, &one), (&other, &one)] {
                assert!(plane.lookups.begin_by(&turns, |_, _| std::future::ready(Some(answer.clone()))));
                let news = plane.lookups.next().await;
                plane.resolved(news);
                plane.publish_found(plane.publish_at.expect("there is news"));
                assert_eq!((news, published(&plane)), (News::Answer, at_once.clone()));
                let news = plane.lookups.next().await;
                plane.resolved(news);
                assert_eq!((news, published(&plane)), (News::Ended, answer.clone()));
            }
        });
    }

    #[test]
    fn f_177_names_that_are_new_are_asked_for_at_once_whoever_else_is_waited_for() {
        let fresh = settings(vec![Host::Name("localhost".into(), 2600), name("dead.test")]);
        let (runtime, mut plane) = plane(&settings(Vec::new()), &fresh);
        runtime.block_on(async {
            assert!(plane.lookups.begin_by(&settings(vec![name("dead.test")]), |_, _| pending()));
            plane.hangup();
            let news = plane.lookups.next().await;
            plane.resolved(news);
            plane.publish_found(plane.publish_at.expect("there is news"));
            assert_eq!(news, News::Answer);
            assert!(published(&plane).iter().all(|at| at.ip().is_loopback() && at.port() == 2600));
            assert!(!published(&plane).is_empty());
        });
    }
}
