//! The figures of mails to people and of messages to their webhook.

use super::metrics::Metrics;
use super::views::{MailView, WebhookView};

/// Sets the gauges, and raises the counters by what came since `before`.
pub(super) fn set(metrics: &Metrics, before: &MailView, now: &MailView) {
    for (result, before, now) in [
        ("sent", before.sent, now.sent),
        ("given_up", before.given_up, now.given_up),
        ("lost", before.lost, now.lost),
    ] {
        let counter = metrics.mails_total.with_label_values(&[result]);
        counter.inc_by(now.saturating_sub(before));
    }
    for (state, count) in [
        ("queued", now.queued),
        ("held", now.held),
        ("dead", now.dead),
    ] {
        let gauge = metrics.mails.with_label_values(&[state]);
        gauge.set(count as f64);
    }
    let overdue = metrics.mail_overdue_seconds.with_label_values::<&str>(&[]);
    overdue.set(now.overdue.as_secs_f64());
    let lost = now.signs_lost.saturating_sub(before.signs_lost);
    let counter = metrics.mail_signs_lost_total.with_label_values::<&str>(&[]);
    counter.inc_by(lost);
    set_webhook(metrics, &before.webhook, &now.webhook);
}

fn set_webhook(metrics: &Metrics, before: &WebhookView, now: &WebhookView) {
    for (result, before, now) in [
        ("sent", before.sent, now.sent),
        ("given_up", before.given_up, now.given_up),
        ("lost", before.lost, now.lost),
    ] {
        let counter = metrics.webhook_messages_total.with_label_values(&[result]);
        counter.inc_by(now.saturating_sub(before));
    }
    for (state, count) in [("queued", now.queued), ("dead", now.dead)] {
        let gauge = metrics.webhook_messages.with_label_values(&[state]);
        gauge.set(count as f64);
    }
    let overdue = metrics
        .webhook_overdue_seconds
        .with_label_values::<&str>(&[]);
    overdue.set(now.overdue.as_secs_f64());
}
