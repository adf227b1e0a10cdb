//! What the admin address tells of a running gateway.

use std::sync::Arc;

use crate::app::admin::{IssuerGauges, RecorderGauges, Sources};
use crate::app::config::Config;
use crate::app::witness::watch::Watch;
use crate::record::Progress;
use crate::record::writer;
use crate::worker::shared::Shared;

pub(super) fn sources(
    shared: &Arc<Shared>,
    progress: &Arc<Progress>,
    config: &Config,
    watch: Option<Arc<Watch>>,
) -> Sources {
    let (ready_shared, ready_progress) = (shared.clone(), progress.clone());
    let gauges = progress.clone();
    let noted = progress.clone();
    let issuers: Vec<String> = config.issuers.iter().map(|issuer| issuer.url.clone()).collect();
    let issuer_shared = shared.clone();
    Sources {
        ready: Box::new(move || {
            if ready_shared.draining() {
                return Err("draining".to_owned());
            }
            if ready_progress.failed() {
                let why = ready_progress.failure().unwrap_or_default();
                return Err(format!("the recorder cannot write: {why}"));
            }
            if ready_progress.unwitnessed() {
                return Err("no witness cosigns the record: new calls are refused".to_owned());
            }
            if !ready_shared.snapshot().keys.complete((ready_shared.clock)()) {
                return Err("the keys of an issuer are not there".to_owned());
            }
            Ok(())
        }),
        metrics: shared.metrics.clone(),
        recorder: Box::new(move || RecorderGauges {
            queue_entries: gauges.queued_entries(),
            queue_bytes: gauges.queued_bytes(),
            entries: gauges.entries(),
            failed: gauges.failed(),
            unsigned_entries: gauges
                .signed()
                .map_or(0, |signed| gauges.entries().saturating_sub(signed.size)),
            checkpoint_age_ms: gauges.signed().map(|signed| {
                writer::system_now().mono_ns.saturating_sub(signed.now.mono_ns) / 1_000_000
            }),
            ..RecorderGauges::default()
        }),
        checkpoint: Box::new(move || noted.signed().map(|signed| signed.note.clone())),
        witnesses: Box::new(move || watch.as_ref().map(|watch| watch.gauges())),
        issuers: Box::new(move || {
            let keys = issuer_shared.snapshot().keys.clone();
            issuers
                .iter()
                .enumerate()
                .map(|(index, issuer)| IssuerGauges {
                    issuer: issuer.clone(),
                    keys: keys
                        .issuer(index)
                        .and_then(|known| known.set.as_ref())
                        .map_or(0, |set| set.keys().len() as u64),
                    age_ms: None,
                })
                .collect()
        }),
    }
}
