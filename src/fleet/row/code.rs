//! A row as bytes.

use crate::fleet::code::{CodeError, Form, Reader, Writer};
use crate::model::Account;

use super::content::{
    ACCOUNTS_MAX, AccountRow, HOSTS_MAX, HeldRow, LOANS_MAX, LentRow, ROW_BYTES_MAX, Row,
    TENANTS_MAX, TenantRow,
};

const FORM: Form = Form {
    magic: *b"kefr",
    version: 1,
    longest: ROW_BYTES_MAX,
};

pub(super) fn encode(row: &Row) -> Vec<u8> {
    FORM.encode(|out| {
        out.text(&row.host);
        out.number(row.process);
        out.stamp(row.stamp);
        out.list(&row.hosts, |out, host| out.text(host));
        out.members(&row.members);
        out.number(row.is_settled.into());
        out.list(&row.seen, |out, stamp| out.stamp(*stamp));
        out.list(&row.accounts, write_account);
    })
}

pub(super) fn decode(bytes: &[u8]) -> Result<Row, CodeError> {
    FORM.decode(bytes, |input| read(input).filter(is_sensible))
}

/// Whether the parts of a row fit together.
fn is_sensible(row: &Row) -> bool {
    let hosts = row.hosts.len();
    let are_hosts_sorted = row.hosts.is_sorted_by(|one, next| one < next);
    let are_accounts_sorted = row
        .accounts
        .is_sorted_by(|one, next| one.account < next.account);
    let are_loans_known = row.accounts.iter().all(|account| {
        let lent = account
            .lent
            .iter()
            .map(|loan| (loan.to, loan.permits.checked_sub(loan.recalled)));
        let held = account.held.iter().map(|loan| (loan.lender, Some(0)));
        lent.chain(held)
            .all(|(host, rest)| usize::from(host) < hosts && rest.is_some())
    });
    are_hosts_sorted
        && are_accounts_sorted
        && are_loans_known
        && row.index_of(&row.host).is_some()
        && row.seen.len() == hosts
        && row.stamp.incarnation > 0
        && row.stamp.beat > 0
}

fn write_account(out: &mut Writer, row: &AccountRow) {
    out.text(row.account.as_str());
    for number in [row.total, row.usable, row.in_use, row.queued] {
        out.number(number.into());
    }
    out.list(&row.tenants, |out, tenant| {
        for number in [tenant.id, tenant.weight, tenant.demand] {
            out.number(number.into());
        }
    });
    out.list(&row.lent, |out, loan| {
        out.number(loan.number);
        out.number(loan.to.into());
        out.number(loan.to_incarnation);
        out.number(loan.permits.into());
        out.number(loan.recalled.into());
        out.number(loan.as_of);
    });
    out.list(&row.held, |out, loan| {
        out.number(loan.lender.into());
        out.number(loan.incarnation);
        out.number(loan.number);
        out.number(loan.permits.into());
    });
}

fn read(input: &mut Reader<'_>) -> Option<Row> {
    Some(Row {
        host: input.text()?,
        process: input.number()?,
        stamp: input.stamp()?,
        hosts: input.list(HOSTS_MAX, Reader::text)?,
        members: input.members()?,
        is_settled: input.flag()?,
        seen: input.list(HOSTS_MAX, Reader::stamp)?,
        accounts: input.list(ACCOUNTS_MAX, read_account)?,
    })
}

fn read_account(input: &mut Reader<'_>) -> Option<AccountRow> {
    Some(AccountRow {
        account: Account::from_normal(&input.text()?),
        total: input.small()?,
        usable: input.small()?,
        in_use: input.small()?,
        queued: input.small()?,
        tenants: input.list(TENANTS_MAX, read_tenant)?,
        lent: input.list(LOANS_MAX, read_lent)?,
        held: input.list(LOANS_MAX, read_held)?,
    })
}

fn read_tenant(input: &mut Reader<'_>) -> Option<TenantRow> {
    Some(TenantRow {
        id: input.small()?,
        weight: input.small()?,
        demand: input.small()?,
    })
}

fn read_lent(input: &mut Reader<'_>) -> Option<LentRow> {
    Some(LentRow {
        number: input.number()?,
        to: input.small()?,
        to_incarnation: input.number()?,
        permits: input.small()?,
        recalled: input.small()?,
        as_of: input.number()?,
    })
}

fn read_held(input: &mut Reader<'_>) -> Option<HeldRow> {
    Some(HeldRow {
        lender: input.small()?,
        incarnation: input.number()?,
        number: input.number()?,
        permits: input.small()?,
    })
}
