//! Each fault, done to real files and sockets on the epoll driver.

use super::*;
use crate::io::driver::{Conn, Next, Notify};
use crate::io::epoll::{self, Epoll};
use crate::sys::slice::{BLOCK_BYTES, Budget, Pool};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;

type Sabotaged = Faulty<Epoll>;

/// A faulty driver, its script, and a folder of the test's own.
struct Bench {
    driver: Sabotaged,
    faults: Faults,
    folder: tempfile::TempDir,
    root: <Sabotaged as Driver>::Dir,
    pool: Pool,
}

fn with_faults<Fut: Future<Output = ()>>(test: impl FnOnce(Bench) -> Fut) {
    epoll::run(&epoll::Options::default(), |inner| {
        let faults = Faults::none();
        let driver = Faulty::new(inner, faults.clone());
        let folder = tempfile::tempdir().expect("a folder");
        let root = driver.root(folder.path()).expect("just made");
        test(Bench { driver, faults, folder, root, pool: Pool::new(Budget::new(16 << 20)) })
    })
    .expect("the driver starts");
}

impl Bench {
    fn slice(&self, bytes: &[u8]) -> Slice {
        let mut fill = self.pool.fill(bytes.len()).expect("within budget");
        fill.put(bytes);
        fill.take()
    }

    async fn create(&self, name: &str) -> FaultyFile<Epoll> {
        self.driver.open(&self.root, name, Open::Create { direct: false }).await.expect("created")
    }

    async fn write(&self, file: &FaultyFile<Epoll>, bytes: &[u8], at: u64) -> io::Result<usize> {
        let half = bytes.len() / 2;
        let parts = vec![self.slice(&bytes[..half]), self.slice(&bytes[half..])];
        let (done, back) = self.driver.write(file, parts, at, Stable::Yes).await;
        let back: Vec<u8> = back.iter().flat_map(|part| part.to_vec()).collect();
        assert_eq!(back, bytes, "the parts come back whole");
        done
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("readable")
    }

    async fn pair(&self) -> (FaultyConn<Epoll>, TcpStream) {
        let listener = self.driver.listen((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let peer = TcpStream::connect(self.driver.local(&listener).expect("bound")).expect("listening");
        (self.driver.accept(&listener).await.expect("it waits"), peer)
    }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn f_021_short_writes_are_real() {
    with_faults(async |bench: Bench| {
        let file = bench.create("f").await;
        bench.faults.inject(Rule::new(Op::Write, Fault::Short(5)).nth(2));
        assert_eq!(bench.write(&file, b"0123456789", 0).await.expect("sound"), 10);
        assert_eq!(bench.write(&file, b"abcdefghij", 10).await.expect("short"), 5);
        assert_eq!(bench.content("f"), b"0123456789abcde");
    });
}

#[test]
fn f_022_f_026_errors_leave_the_file_alone() {
    with_faults(async |bench: Bench| {
        let file = bench.create("segment").await;
        for code in [Errno::NOSPC, Errno::IO, Errno::DQUOT, Errno::ROFS] {
            bench.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(code)).named("segment").nth(1));
            assert_eq!(errno(bench.write(&file, b"lost", 0).await), Some(code.raw_os_error()));
            bench.faults.heal();
        }
        assert_eq!(bench.content("segment"), b"");
        bench.faults.inject(Rule::new(Op::Create, Fault::Fails(Errno::NOSPC)));
        let refused = bench.driver.open(&bench.root, "next", Open::Create { direct: false }).await;
        assert_eq!(errno(refused), Some(Errno::NOSPC.raw_os_error()));
        assert!(!bench.path("next").exists());
        assert_eq!(bench.faults.strikes(), 5);
    });
}

#[test]
fn f_015_a_torn_write_leaves_its_beginning() {
    with_faults(async |bench: Bench| {
        let file = bench.create("f").await;
        bench.faults.inject(Rule::new(Op::Write, Fault::Torn(3, Errno::IO)));
        assert_eq!(errno(bench.write(&file, b"0123456789", 0).await), Some(Errno::IO.raw_os_error()));
        assert_eq!(bench.content("f"), b"012");
    });
}

#[test]
fn f_015_a_direct_write_tears_at_any_octet() {
    with_faults(async |bench: Bench| {
        let direct = Open::Create { direct: true };
        let Ok(file) = bench.driver.open(&bench.root, "f", direct).await else {
            return println!("no direct I/O here: not tested");
        };
        bench.driver.allocate(&file, 4 * BLOCK_BYTES as u64).await.expect("space");
        bench.faults.inject(Rule::new(Op::Write, Fault::Torn(512, Errno::IO)));
        let parts = vec![bench.slice(&[b'x'; 2 * BLOCK_BYTES])];
        let (done, _parts) = bench.driver.write(&file, parts, BLOCK_BYTES as u64, Stable::Yes).await;
        assert_eq!(errno(done), Some(Errno::IO.raw_os_error()));
        let content = bench.content("f");
        let written = &content[BLOCK_BYTES..3 * BLOCK_BYTES];
        assert!(written[..512].iter().all(|&octet| octet == b'x') && written[512..].iter().all(|&octet| octet == 0));
    });
}

#[test]
fn f_019_lies_of_the_device() {
    with_faults(async |bench: Bench| {
        let file = bench.create("f").await;
        bench.write(&file, b"0123456789", 0).await.expect("sound");
        bench.faults.inject(Rule::new(Op::Write, Fault::Lost).nth(1));
        bench.faults.inject(Rule::new(Op::Write, Fault::Misdirected(4)).nth(2));
        assert_eq!(bench.write(&file, b"xx", 0).await.expect("it says"), 2);
        assert_eq!(bench.write(&file, b"yy", 0).await.expect("it says"), 2);
        assert_eq!(bench.content("f"), b"0123yy6789");
    });
}

#[test]
fn f_027_a_failed_sync_may_have_written_everything() {
    with_faults(async |bench: Bench| {
        let file = bench.create("f").await;
        bench.faults.inject(Rule::new(Op::Sync, Fault::FailsAfterwards(Errno::IO)));
        bench.faults.inject(Rule::new(Op::StableWrite, Fault::FailsAfterwards(Errno::IO)));
        assert!(bench.write(&file, b"there", 0).await.is_err());
        assert!(bench.driver.sync(&file).await.is_err());
        assert_eq!(bench.content("f"), b"there");
        bench.faults.inject(Rule::new(Op::SyncDir, Fault::Fails(Errno::IO)));
        assert!(bench.driver.sync_dir(&bench.root).await.is_err());
    });
}

#[test]
fn f_016_f_028_reads_flip_shorten_and_fail() {
    with_faults(async |bench: Bench| {
        let file = bench.create("f").await;
        bench.write(&file, b"0123456789", 0).await.expect("sound");
        bench.faults.inject(Rule::new(Op::Read, Fault::Flips { at: 4, mask: 1 }).nth(1));
        bench.faults.inject(Rule::new(Op::Read, Fault::Short(3)).nth(2));
        bench.faults.inject(Rule::new(Op::Read, Fault::Fails(Errno::IO)).nth(3));
        let read = async || {
            let mut into = bench.pool.fill(100).expect("within budget");
            into.put(b"kept");
            let (added, into) = bench.driver.read(&file, into, 2).await;
            (added.ok(), into.written().to_vec())
        };
        assert_eq!(read().await, (Some(8), b"kept23556789".to_vec()));
        assert_eq!(read().await, (Some(3), b"kept234".to_vec()));
        assert_eq!(read().await, (None, b"kept".to_vec()));
        assert_eq!(read().await, (Some(8), b"kept23456789".to_vec()));
    });
}

#[test]
fn completions_change_order_across_files() {
    with_faults(async |bench: Bench| {
        let (one, two) = (bench.create("one").await, bench.create("two").await);
        let order = RefCell::new(Vec::new());
        bench.faults.inject(Rule::new(Op::Write, Fault::Overtaken(1)).named("one").nth(1));
        let write = async |file, name| {
            bench.write(file, b"x", 0).await.expect("sound");
            order.borrow_mut().push(name);
        };
        tokio::join!(write(&one, "one"), write(&two, "two"));
        assert_eq!(*order.borrow(), ["two", "one"]);
        assert_eq!(bench.content("one"), b"x");
    });
}

#[test]
fn f_029_f_030_completions_are_late_or_held_until_released() {
    with_faults(async |bench: Bench| {
        let file = bench.create("f").await;
        bench.faults.inject(Rule::new(Op::Sync, Fault::Late(Span::millis(20))).nth(1));
        bench.faults.inject(Rule::new(Op::Sync, Fault::Held).from_nth(2));
        let begin = bench.driver.precise_now();
        bench.driver.sync(&file).await.expect("late");
        assert!(bench.driver.precise_now().since(begin) >= Span::millis(20));
        for heal in [false, true] {
            let (synced, faults) = (Rc::new(Cell::new(false)), bench.faults.clone());
            let (flag, driver, file) = (synced.clone(), bench.driver.clone(), file.clone());
            bench.driver.spawn(async move {
                driver.sync(&file).await.expect("released");
                flag.set(true);
            });
            bench.driver.sleep(Span::millis(30)).await;
            assert!(!synced.get(), "it was not held");
            if heal {
                faults.heal()
            } else {
                faults.release()
            }
            while !synced.get() {
                bench.driver.sleep(Span::millis(1)).await;
            }
        }
    });
}

#[test]
fn names_and_folders_fail_too() {
    with_faults(async |bench: Bench| {
        bench.create("m").await;
        let rules = [Op::Rename, Op::Remove, Op::List, Op::Dir, Op::CreateDir, Op::Open, Op::Allocate];
        let file = bench.create("other").await;
        for op in rules {
            bench.faults.inject(Rule::new(op, Fault::Fails(Errno::IO)));
        }
        let (driver, root) = (&bench.driver, &bench.root);
        assert!(driver.rename(root, "m", root, "n").await.is_err());
        assert!(driver.remove(root, "m").await.is_err());
        assert!(driver.list(root).await.is_err());
        assert!(driver.create_dir(root, "d").await.is_err());
        assert!(driver.dir(root, ".").await.is_err());
        assert!(driver.open(root, "m", Open::Read).await.is_err());
        assert!(driver.allocate(&file, 10).await.is_err());
        assert!(bench.path("m").exists() && !bench.path("n").exists() && !bench.path("d").exists());
        assert!(driver.free_bytes(root).expect("sound") > 0);
        bench.faults.inject(Rule::new(Op::FreeBytes, Fault::Fails(Errno::NOSPC)));
        bench.faults.inject(Rule::new(Op::Lock, Fault::Fails(Errno::NOLCK)));
        assert_eq!(driver.free_bytes(root).expect("sound"), 0);
        assert!(driver.lock(&file).is_err());
        let ops: Vec<Op> = bench.faults.seen().iter().map(|seen| seen.op).collect();
        assert_eq!(ops[..3], [Op::Create, Op::Create, Op::Rename]);
    });
}

#[test]
fn a_connection_is_reset_by_the_script() {
    with_faults(async |bench: Bench| {
        let (mut conn, mut peer) = bench.pair().await;
        peer.write_all(b"never seen").expect("sent");
        bench.faults.inject(Rule::new(Op::Receive, Fault::Reset).nth(1));
        let see = |bytes: &[u8]| (bytes.len(), ());
        assert!(matches!(conn.next(Tick::NEVER, see).await, Next::Broken(ErrorKind::ConnectionReset)));
        conn.put(b"lost");
        assert_eq!(conn.unsent(), 0);
        conn.handle().note(5);
        assert!(matches!(conn.next(Tick::NEVER, see).await, Next::Note(5)));
        let by = bench.driver.precise_now() + Span::millis(20);
        assert!(matches!(conn.next(by, see).await, Next::Deadline));
        drop(conn);
        bench.driver.sleep(Span::millis(1)).await;
        let read = tokio::task::spawn_blocking(move || std::io::Read::read(&mut peer, &mut [0; 10])).await;
        assert_eq!(read.expect("no panic").expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_connection_stalls_until_it_is_healed() {
    with_faults(async |bench: Bench| {
        let (mut conn, mut peer) = bench.pair().await;
        peer.write_all(b"patience").expect("sent");
        bench.faults.inject(Rule::new(Op::Receive, Fault::Stalls).nth(1));
        let see = |bytes: &[u8]| (bytes.len(), bytes.to_vec());
        for _ in 0..2 {
            let by = bench.driver.precise_now() + Span::millis(20);
            assert!(matches!(conn.next(by, see).await, Next::Deadline));
        }
        bench.faults.heal();
        assert!(matches!(conn.next(Tick::NEVER, see).await, Next::Bytes(bytes) if bytes == b"patience"));
        bench.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::HOSTUNREACH)));
        let to = peer.local_addr().expect("bound");
        let refused = bench.driver.connect(to, Tick::NEVER).await;
        assert_eq!(errno(refused), Some(Errno::HOSTUNREACH.raw_os_error()));
    });
}
