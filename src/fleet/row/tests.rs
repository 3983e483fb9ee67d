use proptest::prelude::*;

use super::*;
use crate::fleet::code::CodeError;
use crate::model::Account;

fn row() -> Row {
    Row {
        host: "gw-b".to_owned(),
        process: u64::MAX,
        stamp: Stamp {
            incarnation: 1_795_000_000_000,
            beat: 7,
        },
        hosts: ["gw-a", "gw-b"].map(str::to_owned).to_vec(),
        members: Members {
            version: 3,
            evicted: vec!["gw-a".to_owned()],
        },
        is_settled: true,
        seen: vec![Stamp::default(); 2],
        accounts: vec![AccountRow {
            account: Account::from_normal("acme.cybozu.com"),
            total: 98,
            usable: 95,
            in_use: 90,
            queued: 300,
            tenants: vec![TenantRow {
                id: u32::MAX,
                weight: 2,
                demand: 390,
            }],
            lent: vec![LentRow {
                number: 1,
                to: 0,
                to_incarnation: 5,
                permits: 4,
                recalled: 4,
                as_of: 6,
            }],
            held: vec![HeldRow {
                lender: 0,
                incarnation: 5,
                number: 9,
                permits: 46,
            }],
        }],
    }
}

/// A row with a right checksum, whatever its body says.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&bytes[13..]);
    let length = u32::try_from(bytes.len() - 13).unwrap();
    bytes[5..9].copy_from_slice(&sum.to_le_bytes());
    bytes[9..13].copy_from_slice(&length.to_le_bytes());
    bytes
}

#[test]
fn a_row_comes_back_as_it_was_written() {
    let bytes = row().encode();
    assert_eq!(Row::decode(&bytes), Ok(row()));
    assert!(bytes.len() < 128, "{} bytes", bytes.len());
}

#[test]
fn what_is_no_row_is_refused_by_what_it_is() {
    let bytes = row().encode();
    assert_eq!(Row::decode(b""), Err(CodeError::Strange));
    assert_eq!(Row::decode(&[0; 64]), Err(CodeError::Strange));
    let mut newer = bytes.clone();
    newer[4] = 2;
    assert_eq!(
        Row::decode(&newer),
        Err(CodeError::Version {
            found: 2,
            expected: 1
        })
    );
    let long = vec![0; ROW_BYTES_MAX + 1];
    let found = long.len();
    assert_eq!(
        Row::decode(&long),
        Err(CodeError::Long {
            found,
            longest: ROW_BYTES_MAX
        })
    );
    for length in 13..bytes.len() {
        assert_eq!(Row::decode(&bytes[..length]), Err(CodeError::Torn));
    }
    for at in 5..bytes.len() {
        let mut torn = bytes.clone();
        torn[at] ^= 0x10;
        assert_eq!(Row::decode(&torn), Err(CodeError::Torn), "{at}");
    }
}

#[test]
fn a_row_that_makes_no_sense_is_refused() {
    type Change = fn(&mut Row);
    let changes: [Change; 7] = [
        |row| row.host = "gw-c".to_owned(),
        |row| row.hosts.reverse(),
        |row| row.stamp.beat = 0,
        |row| row.seen.truncate(1),
        |row| row.accounts.push(row.accounts[0].clone()),
        |row| row.accounts[0].lent[0].recalled = 5,
        |row| row.accounts[0].held[0].lender = 2,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut bad = row();
        change(&mut bad);
        assert_eq!(
            Row::decode(&bad.encode()),
            Err(CodeError::Nonsense),
            "{number}"
        );
    }
    let mut longer = row().encode();
    longer.push(0);
    assert_eq!(Row::decode(&sealed(longer)), Err(CodeError::Nonsense));
}

proptest! {
    #[test]
    fn any_bytes_with_a_right_checksum_are_read_or_refused(
        body in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0..100_usize,
        graft in any::<bool>(),
    ) {
        let mut bytes = row().encode();
        let keep = if graft { bytes.len().saturating_sub(cut).max(13) } else { 13 };
        bytes.truncate(keep);
        bytes.extend(body);
        if let Ok(row) = Row::decode(&sealed(bytes)) {
            prop_assert_eq!(Row::decode(&row.encode()), Ok(row));
        }
    }
}
