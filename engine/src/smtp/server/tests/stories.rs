//! Rows of smtp-must.md one by one.

use super::support::*;

#[test]
fn m_002_a_message_comes_in() {
    let mut bench = Bench::rfc().hello();
    assert_eq!(bench.ask("MAIL FROM:<a@a.test> SIZE=5 BODY=8BITMIME"), ["250 2.1.0"]);
    assert_eq!(bench.ask("RCPT TO:<b@b.test>"), ["250 2.1.5"]);
    assert_eq!(bench.ask("DATA"), ["354"]);
    bench.feed(b"Subject: x\r\n\r\n..dot\r\nend\r\n.\r\n");
    assert_eq!(bench.codes(), ["250 2.0.0"]);
    assert_eq!(bench.messages[0].content, b"Subject: x\r\n\r\n.dot\r\nend\r\n");
}
