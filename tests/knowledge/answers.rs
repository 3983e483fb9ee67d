//! The corpus of kintone's answers: why each failed, plain and compressed, cut anywhere.

use std::io::Write as _;

use http::{HeaderMap, HeaderValue, StatusCode};
use kintone_egress::kintone::answer::{BodyEnd, Coding, ErrorReader, Said, cause, code_of};
use kintone_egress::model::Cause;
use proptest::prelude::*;

use crate::compress::{Way, compress};
use crate::corpus::{Sample, samples};
use crate::random::pieces;

const fn coding(way: Way) -> Coding {
    match way {
        Way::Plain => Coding::Identity,
        Way::Gzip => Coding::Gzip,
        Way::Zlib | Way::Deflate => Coding::Deflate,
        Way::Brotli => Coding::Brotli,
    }
}

fn read<'a>(coding: Coding, pieces: impl IntoIterator<Item = &'a [u8]>) -> ErrorReader {
    let mut reader = ErrorReader::new(coding);
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    reader
}

/// Headers of an answer in that coding, with kintone's code or without.
fn headers(way: Way, code: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(name) = way.name() {
        headers.insert("content-encoding", HeaderValue::from_static(name));
    }
    if let Some(code) = code {
        headers.insert("x-cybozu-error", HeaderValue::from_str(code).unwrap());
    }
    headers
}

fn check(sample: &Sample, way: Way, code_in_header: Option<&str>, size: usize) {
    let headers = headers(way, code_in_header);
    let bytes = compress(way, sample.body.as_bytes());
    let reader = read(Coding::of(&headers), bytes.chunks(size));
    let said = reader.said(BodyEnd::Whole);
    let at = format!("{} {} {way:?} by {size}", sample.status, sample.name);
    let judged = cause(sample.status, code_of(&headers), said);
    assert_eq!(judged.label(), sample.cause, "{at}");
    match (&sample.code, said) {
        (Some(expected), Said::Error { code, id }) => {
            assert_eq!(
                (code, id),
                (expected.as_str(), sample.id.as_deref()),
                "{at}"
            );
        }
        (None, Said::NoError | Said::OAuth(_)) => {}
        (_, said) => panic!("{at}: {said:?}"),
    }
}

#[test]
fn every_answer_of_the_corpus_is_judged_right_in_every_coding() {
    let samples = samples();
    assert!(samples.len() > 90, "{}", samples.len());
    for sample in &samples {
        for way in Way::ALL {
            for size in [1, 2, 7, 64, usize::MAX] {
                check(sample, way, None, size);
                if let Some(code) = &sample.code {
                    check(sample, way, Some(code), size);
                }
            }
        }
    }
}

#[test]
fn every_cause_is_in_the_corpus() {
    let samples = samples();
    for cause in Cause::ALL {
        let found = samples.iter().any(|sample| sample.cause == cause.label());
        assert!(found, "{cause}");
    }
}

#[test]
fn the_corpus_has_both_languages_of_each_kind_of_answer() {
    let samples = samples();
    for (language, least) in [("ja", 30), ("en", 40)] {
        let found = samples.iter().filter(|it| it.language == language).count();
        assert!(found >= least, "{language}: {found}");
    }
}

/// An error with much behind it, as CB_VA01 of many fields is.
fn long_error() -> String {
    let filler = "必須です。".repeat(60_000);
    format!(r#"{{"code":"CB_VA01","id":"aBc8xyRm9kiFutkr90f1","errors":{{"x":"{filler}"}}}}"#)
}

#[test]
fn a_code_at_the_beginning_is_found_however_long_the_answer_is() {
    for way in Way::ALL {
        let bytes = compress(way, long_error().as_bytes());
        let reader = read(coding(way), bytes.chunks(1000));
        assert!(reader.knows(), "{way:?}");
        let said = reader.said(BodyEnd::More);
        assert!(
            matches!(
                said,
                Said::Error {
                    code: "CB_VA01",
                    id: Some(_)
                }
            ),
            "{way:?}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_not_taken_for_an_answer_without_a_code() {
    let error = br#"{"code":"CB_NO02","id":"aBc8xyRm9kiFutkr90f1","message":"No privilege"}"#;
    let behind = format!(r#"{{"message":"{}","code":"CB_NO02"}}"#, " ".repeat(70_000));
    let unreadable = [
        (Coding::Unknown, error.to_vec()),
        (Coding::Gzip, error.to_vec()),
        (Coding::Brotli, vec![0xff; 20]),
        (Coding::Gzip, compress(Way::Gzip, behind.as_bytes())),
        (Coding::Brotli, compress(Way::Brotli, behind.as_bytes())),
        (Coding::Identity, behind.as_bytes().to_vec()),
    ];
    for (coding, bytes) in unreadable {
        let reader = read(coding, [bytes.as_slice()]);
        assert!(reader.knows(), "{coding:?}");
        let said = reader.said(BodyEnd::Whole);
        assert_eq!(said, Said::Unreadable, "{coding:?}");
        assert_eq!(
            cause(StatusCode::FORBIDDEN, None, said),
            Cause::Unclassified
        );
        assert_eq!(
            cause(StatusCode::BAD_GATEWAY, None, said),
            Cause::UpstreamError
        );
    }
    let half = read(Coding::Identity, [&error[..10]]);
    assert_eq!(half.said(BodyEnd::More), Said::Unreadable, "more may come");
}

#[test]
fn a_bomb_is_not_unpacked() {
    let zeros = vec![b' '; 64 << 20];
    for way in [Way::Gzip, Way::Zlib, Way::Deflate, Way::Brotli] {
        let bomb = compress(way, &zeros);
        assert!(bomb.len() < 128 << 10, "{way:?}: {}", bomb.len());
        let begin = std::time::Instant::now();
        let reader = read(coding(way), [bomb.as_slice()]);
        let took = begin.elapsed();
        assert_eq!(reader.said(BodyEnd::Whole), Said::Unreadable, "{way:?}");
        let begin = std::time::Instant::now();
        let mut whole = flate2::write::GzDecoder::new(std::io::sink());
        whole.write_all(&compress(Way::Gzip, &zeros)).unwrap();
        assert!(took * 4 < begin.elapsed(), "{way:?}: {took:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn where_an_answer_is_cut_or_broken_makes_no_difference(
        at in any::<prop::sample::Index>(),
        way in prop::sample::select(Way::ALL.to_vec()),
        faults in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cuts in prop::collection::vec(1_usize..50, 1..12),
    ) {
        let samples = samples();
        let mut bytes = compress(way, samples[at.index(samples.len())].body.as_bytes());
        for (place, byte) in faults {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        let whole = read(coding(way), [bytes.as_slice()]);
        let parts = read(coding(way), pieces(&bytes, &cuts));
        // A decoder may see a fault earlier in one of them; what it says is never another error.
        match (whole.said(BodyEnd::Whole), parts.said(BodyEnd::Whole)) {
            (Said::Error { code, id }, Said::Error { code: again, id: again_id }) => {
                prop_assert_eq!(code, again);
                prop_assert!(id == again_id || id.is_none() || again_id.is_none());
            }
            (whole, parts) => {
                let broken = |said| matches!(said, Said::Unreadable);
                prop_assert!(whole == parts || broken(whole) || broken(parts), "{:?} {:?}", whole, parts);
            }
        }
    }
}
