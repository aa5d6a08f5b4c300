//! Text to [`Fault`].

use super::{Action, FalseReply, Fault, FaultError, Glob, Selector, TlsFailure, Where};
use crate::units::{parse_bytes, parse_span};
use engine::wire::Span;
use std::str::FromStr;

/// Octets that a single false reply may have, at most.
const FALSE_BYTES_MAX: usize = 64 << 20;

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (place, rest) = text.split_once(':').ok_or_else(|| FaultError::Shape(text.to_owned()))?;
        let at = Where::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(place.trim())).map(|(_, at)| *at);
        let at = at.ok_or_else(|| FaultError::Place { fault: text.into(), place: place.into() })?;
        let mut parts = split_unquoted(rest).into_iter();
        let action = parse_action(text, parts.next().unwrap_or_default().trim())?;
        let mut select = Selector::default();
        for part in parts {
            let bad = || FaultError::Selector { fault: text.into(), selector: part.into() };
            parse_selector(&mut select, part.trim()).ok_or_else(bad)?;
        }
        let fault = Fault { at, action, select, text: text.to_owned() };
        check(&fault)?;
        Ok(fault)
    }
}

/// Splits at semicolons outside of single quotes.
fn split_unquoted(text: &str) -> Vec<&str> {
    let (mut parts, mut quoted, mut start) = (Vec::new(), false, 0);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            b'\'' => quoted = !quoted,
            b';' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_action(fault: &str, action: &str) -> Result<Action, FaultError> {
    let (verb, argument) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
    let argument = argument.trim();
    let wrong = |right| FaultError::Action { fault: fault.into(), action: action.into(), right };
    let plain = plain_action(verb);
    if let Some(plain) = plain {
        return if argument.is_empty() { Ok(plain) } else { Err(wrong("it takes no argument")) };
    }
    let count = || argument.parse().ok().filter(|&count: &usize| count <= FALSE_BYTES_MAX);
    let octets = |text: &str| parse_bytes(text).ok();
    let parsed = match verb {
        "reply" => parse_reply(argument).map(Action::Reply).ok_or("write reply CODE [ESC] [TEXT], with three digits"),
        "take+reply" => parse_reply(argument).map(Action::TakeReply).ok_or("write take+reply CODE [TEXT]"),
        "delay" => parse_span(argument).ok().map(Action::Delay).ok_or("write delay DUR, as delay 200ms"),
        "pause" => parse_span(argument).ok().map(Action::Pause).ok_or("write pause DUR, as pause 2s"),
        "cut" => count().map(Action::Cut).ok_or("write cut N, with N octets"),
        "multiline" => count().filter(|&n| n > 0).map(Action::Multiline).ok_or("write multiline N, with N lines"),
        "long" => count().map(Action::Long).ok_or("write long N, with N octets (at most 64 MiB)"),
        "garbage" => count().map(Action::Garbage).ok_or("write garbage N, with N octets (at most 64 MiB)"),
        "slowread" => {
            octets(argument).filter(|&n| n > 0).map(Action::SlowRead).ok_or("write slowread RATE, in octets/s")
        }
        "slowwrite" => {
            octets(argument).filter(|&n| n > 0).map(Action::SlowWrite).ok_or("write slowwrite RATE, in octets/s")
        }
        "window" => octets(argument).map(Action::Window).ok_or("write window BYTES"),
        "lie-size" => octets(argument).map(Action::LieSize).ok_or("write lie-size N"),
        "noext" => keyword(argument).map(Action::NoExt).ok_or("write noext KEYWORD, as noext CHUNKING"),
        "ext" => unquote(argument).filter(|line| !line.is_empty()).map(Action::Ext).ok_or("write ext 'LINE'"),
        "inject" => unquote(argument).map(|text| Action::Inject(unescape(&text))).ok_or("write inject 'BYTES'"),
        "tlsfail" => tls_failure(argument).map(Action::TlsFail).ok_or(
            "write tlsfail KIND: alert, wrongname, expired, selfsigned, oldversion, truncate, afterhandshake, stall",
        ),
        _ => Err(
            "write one of reply, delay, pause, stall, close, reset, halfclose, take+close, drop+close, take+reply, cut, \
             split, multiline, long, nocrlf, lf, garbage, early, extra, twodigits, mixedcodes, slowread, slowwrite, \
             window, noext, ext, tlsfail, inject, lie-size, refuse, blackhole",
        ),
    };
    parsed.map_err(wrong)
}

fn plain_action(verb: &str) -> Option<Action> {
    Some(match verb {
        "stall" => Action::Stall,
        "close" => Action::Close,
        "reset" => Action::Reset,
        "halfclose" => Action::HalfClose,
        "take+close" => Action::TakeClose,
        "drop+close" => Action::DropClose,
        "split" => Action::Split,
        "nocrlf" => Action::NoCrlf,
        "lf" => Action::Lf,
        "early" => Action::Early,
        "extra" => Action::Extra,
        "twodigits" => Action::TwoDigits,
        "mixedcodes" => Action::MixedCodes,
        "refuse" => Action::Refuse,
        "blackhole" => Action::Blackhole,
        _ => return None,
    })
}

fn parse_reply(argument: &str) -> Option<FalseReply> {
    let (code, text) = argument.split_once(char::is_whitespace).unwrap_or((argument, ""));
    let digits = code.len() == 3 && code.bytes().all(|octet| octet.is_ascii_digit());
    let printable = text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
    let text = match text.trim() {
        "" => "as the fault says".to_owned(),
        text => unquote(text)?,
    };
    (digits && printable).then(|| code.parse().ok()).flatten().map(|code| FalseReply { code, text })
}

fn keyword(text: &str) -> Option<String> {
    let word = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    word.then(|| text.to_ascii_uppercase())
}

/// The text between single quotes, or the text itself if it has none.
fn unquote(text: &str) -> Option<String> {
    match text.strip_prefix('\'') {
        Some(rest) => rest.strip_suffix('\'').filter(|inner| !inner.contains('\'')).map(str::to_owned),
        None => (!text.contains('\'')).then(|| text.to_owned()),
    }
}

/// `\r`, `\n`, `\0`, `\\`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match (octet, octet == b'\\') {
            (_, true) => match octets.next() {
                Some(b'r') => bytes.push(b'\r'),
                Some(b'n') => bytes.push(b'\n'),
                Some(b'0') => bytes.push(0),
                Some(other) => bytes.push(other),
                None => bytes.push(b'\\'),
            },
            (octet, false) => bytes.push(octet),
        }
    }
    bytes
}

fn tls_failure(kind: &str) -> Option<TlsFailure> {
    Some(match kind {
        "alert" => TlsFailure::Alert,
        "wrongname" => TlsFailure::WrongName,
        "expired" => TlsFailure::Expired,
        "selfsigned" => TlsFailure::SelfSigned,
        "oldversion" => TlsFailure::OldVersion,
        "truncate" => TlsFailure::Truncate,
        "afterhandshake" => TlsFailure::AfterHandshake,
        "stall" => TlsFailure::Stall,
        _ => return None,
    })
}

fn parse_selector(select: &mut Selector, text: &str) -> Option<()> {
    if let Some(bytes) = text.strip_prefix("size>") {
        select.larger_than = Some(parse_bytes(bytes).ok()?);
        return Some(());
    }
    let (name, value) = text.split_once('=')?;
    let number = || value.parse::<u64>().ok();
    match name {
        "p" => select.probability = Some(value.parse().ok().filter(|p| (0.0..=1.0).contains(p))?),
        "every" => select.every = Some(number().filter(|&n| n > 0)?),
        "first" => select.first = Some(number()?),
        "after" => select.after = Some(number()?),
        "conn" => select.connection = Some(number().filter(|&n| n > 0)?),
        "rcpt" => select.recipient = Some(Glob::new(value)),
        "from" => select.sender = Some(Glob::new(value)),
        "seed" => select.seed = number()?,
        "t" => {
            let (from, until) = value.split_once("..").unwrap_or((value, ""));
            let span = |text: &str| if text.is_empty() { Some(None) } else { parse_span(text).ok().map(Some) };
            (select.from, select.until) = (span(from)?, span(until)?);
            let forward = select.until.is_none_or(|until| until > select.from.unwrap_or(Span::ZERO));
            return forward.then_some(());
        }
        _ => return None,
    }
    Some(())
}

fn check(fault: &Fault) -> Result<(), FaultError> {
    let not_yet = |reason| Err(FaultError::NotYet { fault: fault.text.clone(), reason });
    let misplaced = |action, places| Err(FaultError::Misplaced { fault: fault.text.clone(), action, places });
    match (&fault.action, fault.at) {
        (_, Where::Starttls | Where::Tls | Where::Auth) | (Action::TlsFail(_) | Action::Inject(_), _) => {
            not_yet("it comes with TLS and AUTH")
        }
        (Action::Early, Where::Mail | Where::Rcpt | Where::Data | Where::Bdat | Where::Eod | Where::Any) => Ok(()),
        (Action::Early, _) => misplaced("a reply ahead of its time", "mail, rcpt, data, bdat, eod and any"),
        (Action::Window(_), _) => not_yet("the receive buffer is the driver's"),
        (Action::Blackhole, _) => not_yet("SYNs are dropped by network namespaces, not by a process"),
        (Action::TakeClose | Action::DropClose | Action::TakeReply(_), at)
            if !matches!(at, Where::Eod | Where::Bdat) =>
        {
            misplaced("what is taken or dropped", "eod and bdat")
        }
        (Action::Refuse, at) if at != Where::Accept => misplaced("refuse", "accept"),
        (Action::NoExt(_) | Action::Ext(_) | Action::LieSize(_), at) if at != Where::Ehlo => {
            misplaced("an extension", "ehlo")
        }
        (Action::SlowRead(_), at) if !matches!(at, Where::Body | Where::Any) => misplaced("slowread", "body and any"),
        (Action::Pause(_) | Action::Stall | Action::Close | Action::Reset | Action::Refuse, Where::Accept) => Ok(()),
        (_, Where::Accept) => misplaced("a reply", "what comes after accept: try banner"),
        (
            Action::Pause(_)
            | Action::Stall
            | Action::Close
            | Action::Reset
            | Action::HalfClose
            | Action::Delay(_)
            | Action::SlowRead(_),
            Where::Body,
        ) => Ok(()),
        (_, Where::Body) => misplaced("a reply", "what has one: try data or eod"),
        (Action::Close | Action::Reset | Action::HalfClose | Action::Reply(_), Where::Idle) => Ok(()),
        (_, Where::Idle) => misplaced("what is done to a reply", "what has one"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Fault, FaultError> {
        text.parse()
    }

    #[test]
    fn the_whole_vocabulary_is_read() {
        let reply = |code, text: &str| FalseReply { code, text: text.into() };
        for (text, at, action) in [
            ("accept:refuse", Where::Accept, Action::Refuse),
            ("banner:stall", Where::Banner, Action::Stall),
            ("banner:reply 220 mx.own.test", Where::Banner, Action::Reply(reply(220, "mx.own.test"))),
            ("rcpt:reply 550 5.1.1 no such user", Where::Rcpt, Action::Reply(reply(550, "5.1.1 no such user"))),
            ("data:reply 250 'a; b'", Where::Data, Action::Reply(reply(250, "a; b"))),
            ("eod:take+close", Where::Eod, Action::TakeClose),
            ("eod:drop+close", Where::Eod, Action::DropClose),
            ("eod:take+reply 451 later", Where::Eod, Action::TakeReply(reply(451, "later"))),
            ("eod:cut 2", Where::Eod, Action::Cut(2)),
            ("eod:early", Where::Eod, Action::Early),
            ("bdat:early", Where::Bdat, Action::Early),
            ("any:split", Where::Any, Action::Split),
            ("any:long 10000000", Where::Any, Action::Long(10_000_000)),
            ("any:multiline 1000000", Where::Any, Action::Multiline(1_000_000)),
            ("any:lf", Where::Any, Action::Lf),
            ("any:nocrlf", Where::Any, Action::NoCrlf),
            ("any:garbage 50", Where::Any, Action::Garbage(50)),
            ("any:extra", Where::Any, Action::Extra),
            ("any:twodigits", Where::Any, Action::TwoDigits),
            ("any:mixedcodes", Where::Any, Action::MixedCodes),
            ("body:slowread 100", Where::Body, Action::SlowRead(100)),
            ("any:slowwrite 1", Where::Any, Action::SlowWrite(1)),
            ("mail:delay 2s", Where::Mail, Action::Delay(Span::seconds(2))),
            ("any:pause 2s", Where::Any, Action::Pause(Span::seconds(2))),
            ("quit:close", Where::Quit, Action::Close),
            ("rset:reset", Where::Rset, Action::Reset),
            ("idle:halfclose", Where::Idle, Action::HalfClose),
            ("ehlo:noext chunking", Where::Ehlo, Action::NoExt("CHUNKING".into())),
            ("ehlo:ext 'SIZE 1000; x'", Where::Ehlo, Action::Ext("SIZE 1000; x".into())),
            ("EHLO:lie-size 1k", Where::Ehlo, Action::LieSize(1024)),
        ] {
            let fault = parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((fault.at, &fault.action), (at, &action), "{text}");
            assert_eq!(fault.to_string(), text);
        }
    }

    #[test]
    fn what_this_version_cannot_do_is_said_and_not_ignored() {
        for text in [
            "starttls:reply 454",
            "tls:tlsfail expired",
            "auth:stall",
            "body:window 0",
            "accept:blackhole",
            "any:inject '250 ok\\r\\n'",
        ] {
            assert!(matches!(parse(text), Err(FaultError::NotYet { .. })), "{text}");
        }
    }

    #[test]
    fn selectors_are_read() {
        let select =
            parse("rcpt:reply 452;p=0.5;every=10;first=5;after=10;conn=3;rcpt=u*@x;from=a*;size>4k;t=10s..20s;seed=9");
        let expected = Selector {
            probability: Some(0.5),
            every: Some(10),
            first: Some(5),
            after: Some(10),
            connection: Some(3),
            recipient: Some(Glob::new("u*@x")),
            sender: Some(Glob::new("a*")),
            larger_than: Some(4096),
            from: Some(Span::seconds(10)),
            until: Some(Span::seconds(20)),
            seed: 9,
        };
        assert_eq!(select.map(|fault| fault.select), Ok(expected));
        assert_eq!(parse("eod:stall;t=..5s").map(|fault| fault.select.until), Ok(Some(Span::seconds(5))));
    }

    #[test]
    fn wrong_faults_are_refused_with_what_would_be_right() {
        assert!(matches!(parse("close"), Err(FaultError::Shape(_))));
        assert!(matches!(parse("helo:close"), Err(FaultError::Place { .. })));
        for text in [
            "eod:",
            "eod:explode",
            "eod:reply",
            "eod:reply 25",
            "eod:reply 2500",
            "eod:cut",
            "eod:cut x",
            "eod:close now",
            "eod:delay",
            "any:long 999999999999",
            "ehlo:ext",
            "ehlo:ext 'x",
            "ehlo:noext a b",
        ] {
            assert!(matches!(parse(text), Err(FaultError::Action { .. })), "{text}");
        }
        for text in [
            "eod:close;",
            "eod:close;p=2",
            "eod:close;every=0",
            "eod:close;t=2s..1s",
            "eod:close;size<4",
            "eod:close;x=1",
        ] {
            assert!(matches!(parse(text), Err(FaultError::Selector { .. })), "{text}");
        }
        for text in [
            "mail:take+close",
            "mail:refuse",
            "mail:noext SIZE",
            "accept:reply 220",
            "body:cut 3",
            "idle:cut 3",
            "mail:slowread 5",
        ] {
            assert!(matches!(parse(text), Err(FaultError::Misplaced { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}", place in 0usize..17, tail in ".{0,30}") {
            let _ = parse(&text);
            let _ = parse(&format!("{}:{text};{tail}", Where::NAMES[place].0));
        }
    }
}
