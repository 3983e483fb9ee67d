use jiff::SignedDuration;

use super::*;
use crate::notify::label::{Kind, WEBHOOK};
use crate::notify::matter::Audience;

fn now() -> Timestamp {
    "2026-11-26T02:00:00Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn label(to: &str, due: Timestamp) -> Label {
    Label {
        reference: "KE-00000001".to_owned(),
        kind: Kind::Begin,
        cause: "authentication".to_owned(),
        account: Some("acme.cybozu.com".to_owned()),
        address: None,
        audience: Audience::Customers,
        way: Way::Mail,
        from: "gateway@example.jp".to_owned(),
        to: to.to_owned(),
        created: now(),
        due,
    }
}

fn open(dir: &Path) -> Spool {
    let (spool, unreadable) = Spool::open(dir).unwrap();
    assert_eq!(unreadable, [""; 0]);
    spool
}

fn put(spool: &Spool, to: &str, due: Timestamp) -> String {
    let id = spool.new_id(now());
    let mail = format!("To: {to}\r\n\r\nhello\r\n");
    let terms = SpoolTerms::default();
    let put = spool.put(&id, label(to, due), mail.as_bytes(), Folder::Queue, terms);
    put.unwrap();
    id
}

#[test]
fn what_was_taken_is_there_after_a_restart_and_what_was_sent_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let (sent, kept) = (
        put(&spool, "a@example.jp", now()),
        put(&spool, "b@example.jp", now()),
    );
    spool.sent(&sent);
    drop(spool);
    let spool = open(dir.path());
    let due = spool.due(Way::Mail, now(), 10);
    assert_eq!(due, [(kept.clone(), label("b@example.jp", now()))]);
    assert_eq!(
        spool.read(&kept).unwrap(),
        b"To: b@example.jp\r\n\r\nhello\r\n"
    );
}

#[test]
fn a_mail_half_written_is_no_mail_and_a_damaged_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    put(&spool, "a@example.jp", now());
    let queue = dir.path().join("mail/queue");
    fs::write(queue.join("1.new"), "{").unwrap();
    fs::write(queue.join("2.mail"), "{").unwrap();
    let (spool, unreadable) = Spool::open(dir.path()).unwrap();
    assert_eq!(spool.figures(Way::Mail).queued, 1);
    assert_eq!(unreadable.len(), 1);
    assert!(unreadable[0].contains("2.mail"), "{unreadable:?}");
}

#[test]
fn waits_double_up_to_the_longest_and_end_in_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let id = put(&spool, "a@example.jp", now());
    let terms = SpoolTerms::default();
    let mut at = now();
    for wait in [30, 60, 120, 240, 300, 300] {
        assert!(!spool.postpone(&id, terms, at));
        assert_eq!(
            spool.next_due(Way::Mail),
            Some(at + SignedDuration::from_secs(wait))
        );
        at = spool.next_due(Way::Mail).unwrap();
    }
    assert!(spool.postpone(&id, terms, later(25 * 3600)));
    let figures = spool.figures(Way::Mail);
    assert_eq!((figures.queued, figures.dead, figures.given_up), (0, 1, 1));
    assert_eq!(open(dir.path()).figures(Way::Mail).dead, 1);
}

#[test]
fn dead_letters_and_mails_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let terms = SpoolTerms {
        mails_max: 2,
        dead_max: 1,
        ..SpoolTerms::default()
    };
    let ids = [
        put(&spool, "a@example.jp", now()),
        put(&spool, "b@example.jp", now()),
    ];
    let third = label("c@example.jp", now());
    let refused = spool.put("3", third, b"", Folder::Queue, terms);
    assert!(matches!(refused, Err(SpoolError::Full(2))), "{refused:?}");
    for id in ids {
        spool.give_up(&id, terms);
    }
    assert_eq!(
        (
            spool.figures(Way::Mail).dead,
            spool.figures(Way::Mail).given_up
        ),
        (1, 2)
    );
    assert_eq!(
        fs::read_dir(dir.path().join("mail/dead")).unwrap().count(),
        1
    );
}

#[test]
fn mails_that_rest_are_held_and_released_or_dropped_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    put(&spool, "rests@example.jp", later(60));
    put(&spool, "due@example.jp", now());
    assert_eq!(spool.hold(now(), |_| true), 1);
    assert_eq!(
        spool.due(Way::Mail, later(3600), 10).len(),
        1,
        "what was due is not held any more"
    );
    let spool = open(dir.path());
    assert_eq!(spool.held()[0].to, "rests@example.jp");
    assert_eq!(spool.release(|_| true), 1);
    assert_eq!(spool.due(Way::Mail, later(60), 10).len(), 2);
    assert_eq!(spool.hold(now(), |_| true), 1);
    assert_eq!(spool.drop_held(|_| true).len(), 1);
    assert_eq!(open(dir.path()).figures(Way::Mail).queued, 1);
}

#[test]
fn only_what_was_not_tried_is_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    put(&spool, "rests@example.jp", later(60));
    let tried = put(&spool, "tried@example.jp", now());
    spool.postpone(&tried, SpoolTerms::default(), now());
    let withdrawn = spool.withdraw(now(), |_| true);
    assert_eq!(withdrawn.len(), 1);
    assert_eq!(withdrawn[0].to, "rests@example.jp");
    assert_eq!(spool.figures(Way::Mail).queued, 1);
}

#[test]
fn nobody_reads_of_the_end_before_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let begin = put(&spool, "a@example.jp", now());
    let end = put(&spool, "a@example.jp", now());
    let other = put(&spool, "b@example.jp", now());
    let due = |at| -> Vec<_> {
        let due = spool.due(Way::Mail, at, 10).into_iter();
        due.map(|(id, _)| id).collect()
    };
    assert_eq!(due(now()), [&*begin, &*other]);
    spool.postpone(&begin, SpoolTerms::default(), now());
    assert_eq!(due(now()), [&*other]);
    spool.sent(&other);
    assert_eq!(spool.next_due(Way::Mail), Some(later(30)));
    spool.sent(&begin);
    assert_eq!(due(now()), [&*end]);
}

#[test]
fn each_way_has_its_own_queue_and_figures() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mail = put(&spool, "a@example.jp", now());
    let posted = Label {
        way: Way::Webhook,
        ..label(WEBHOOK, now())
    };
    let terms = SpoolTerms::default();
    let put = spool.put("9", posted.clone(), b"{}", Folder::Queue, terms);
    put.unwrap();
    assert_eq!(spool.due(Way::Mail, now(), 10)[0].0, mail);
    spool.sent(&mail);
    assert_eq!(spool.figures(Way::Mail).sent, 1);
    assert_eq!(spool.figures(Way::Webhook).queued, 1);
    let spool = open(dir.path());
    let due = spool.due(Way::Webhook, now(), 10);
    assert_eq!(due, [("9".to_owned(), posted)]);
    spool.give_up("9", terms);
    let figures = spool.figures(Way::Webhook);
    assert_eq!((figures.queued, figures.dead, figures.given_up), (0, 1, 1));
    assert_eq!(spool.figures(Way::Mail).given_up, 0);
}

/// What an earlier version wrote has no way: it is a mail.
#[test]
fn a_label_without_a_way_is_of_a_mail() {
    let mut written = serde_json::to_value(label("a@example.jp", now())).unwrap();
    written.as_object_mut().unwrap().remove("way").unwrap();
    let read: Label = serde_json::from_value(written).unwrap();
    assert_eq!(read, label("a@example.jp", now()));
}
