//! Mailbox delivery into a store that does not work.

use super::*;
use crate::io::epoll;
use crate::io::faulty::{Errno, Fault, Faults, Faulty, Op, Rule};
use crate::settings::Profile;
use crate::sys::slice::Budget;
use crate::track::counters::Board;
use crate::wire::Span;

/// M-049, I-3: a copy that came into a mailbox is refused when it is gone from there, durably, and not before.
#[test]
fn m_049_i_3_a_copy_that_could_not_be_taken_back_is_not_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let faults = Faults::none();
        let driver = Faulty::new(driver, faults.clone());
        let mut settings = Settings::of(Profile::Bench);
        settings.store = Store::Maildir(path.clone());
        let pool = Pool::new(Budget::new(1 << 20));
        let tally = Rc::new(Board::new(1).1.remove(0));
        let delivery = MailboxDelivery::open(driver, &Arc::new(settings), pool, tally).expect("a store");
        let root = delivery.root.clone().expect("kept");
        let mailbox = delivery.mailbox(&root, "ann").await.expect("made");
        let parts = [delivery.copy(&[b"Subject: one\r\n"]).expect("memory")];
        let files = || std::fs::read_dir(path.join("ann/new")).expect("made").count();

        // The folder takes the copy, and the removal too; but it cannot be synced, once or any more.
        faults.inject(Rule::new(Op::SyncDir, Fault::Fails(Errno::IO)).nth(1));
        let place = async || delivery.place(&mailbox, &parts, "ann").await;
        assert_eq!((place().await, files()), (Err(StoreError::Broken), 0));
        faults.inject(Rule::new(Op::SyncDir, Fault::Fails(Errno::IO)));
        assert_eq!((place().await, files()), (Err(StoreError::Unknown), 0));
        faults.heal();

        // One copy is there, the next is not to be had; meanwhile somebody read the first.
        for is_read in [false, true] {
            let name = place().await.expect("placed");
            if is_read {
                std::fs::rename(path.join("ann/new").join(&name), path.join("ann/cur").join(&name)).expect("read");
            }
            let mut outcomes = Outcomes::from([("ann", Ok(name)), ("bob", Err(StoreError::Full))]);
            delivery.take_back(&root, &mut outcomes).await;
            let both = ["ann", "bob"].map(|folder| Some(folder.to_owned()));
            match answer(1, false, &both, &outcomes) {
                Answer::Refused(refusal) => assert!(!is_read && refusal.reply().code() == 452),
                Answer::Silence => assert!(is_read),
                other => panic!("{other:?}"),
            }
        }
    })
    .expect("runs");
}

/// M-049 by LMTP: who is told nothing has nobody behind him who is told something.
#[test]
fn m_049_m_213_a_copy_that_may_stay_ends_the_replies() {
    let folders = ["ann", "bob", "cy"].map(|folder| Some(folder.to_owned()));
    let full = Err(StoreError::Full);
    let told = |outcomes: [Result<String, StoreError>; 3]| {
        let outcomes = ["ann", "bob", "cy"].into_iter().zip(outcomes).collect();
        match answer(1, true, &folders, &outcomes) {
            Answer::Each { outcomes, .. } => outcomes.iter().map(Option::is_none).collect::<Vec<_>>(),
            Answer::Accepted { .. } => vec![true; 3],
            other => panic!("{other:?}"),
        }
    };
    let stored = || Ok("1".to_owned());
    assert_eq!(told([stored(), full.clone(), stored()]), [true, false, true]);
    assert_eq!(told([stored(), Err(StoreError::Unknown), stored()]), [true]);
    assert_eq!(told([stored(), full, Err(StoreError::Unknown)]), [true, false]);
    let missing = answer(1, true, &folders, &Outcomes::from([("ann", stored()), ("bob", Err(StoreError::Unknown))]));
    assert!(matches!(missing, Answer::Each { outcomes, .. } if outcomes == [None]), "nobody has what was not placed");
}

/// What an older delivery left in `tmp` when it was killed (F-001): gone when the mailbox is opened, and nothing else is.
#[test]
fn f_001_what_killed_deliveries_left_behind_is_removed_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let mut settings = Settings::of(Profile::Bench);
        settings.store = Store::Maildir(path.clone());
        let pool = Pool::new(Budget::new(1 << 20));
        let tally = Rc::new(Board::new(1).1.remove(0));
        let now = driver.wall().0 / 1_000_000;
        let delivery = MailboxDelivery::open(driver.clone(), &Arc::new(settings), pool, tally).expect("a store");
        let tmp = path.join("ann/tmp");
        std::fs::create_dir_all(&tmp).expect("made");
        let (old, young, foreign) = (now - 37 * 3600, now - 35 * 3600, "1.somebody's");
        let left = [format!("{old}.M1P2Q3.here"), format!("{young}.M1P2Q3.here"), foreign.to_owned()];
        left.iter().for_each(|name| std::fs::write(tmp.join(name), b"half").expect("written"));
        delivery.mailbox(delivery.root.as_ref().expect("kept"), "ann").await.expect("opened");
        let by = driver.now() + Span::seconds(60);
        while tmp.join(&left[0]).exists() {
            assert!(driver.now() < by, "it stays");
            driver.sleep(Span::millis(1)).await;
        }
        assert_eq!(left.map(|name| tmp.join(name).exists()), [false, true, true]);
    })
    .expect("runs");
}
