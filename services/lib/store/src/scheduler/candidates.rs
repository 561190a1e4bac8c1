//! The lines in which tasks wait, found by index: from owner to owner, in each line its oldest task. Neither the length
//! of a line matters nor, beyond what the windows have room for, the number of owners.
//!
//! Statements about waiting tasks, here and elsewhere, name the index that they mean by its condition: `priority >= 0`,
//! `owner_id > 0`, `memory_mib > 0` or `build_id > 0`, true for all rows (migration 0008 says why).

use std::collections::{HashMap, HashSet};

use sqlx::FromRow;

use crate::database::Tx;
use crate::error::StoreError;
use crate::row::int4;
use crate::scheduler::cursor::{Purpose, Rota, Walk};
use crate::scheduler::fair_share::{Line, Rest, UnderWay, Waiting};
use crate::scheduler::types::{Ready, ReleaseConfig};
use crate::scheduler::window::Window;

/// Classes of priority as stored, the highest first.
const PRIORITIES: [i16; 3] = [2, 1, 0];
/// Owners that each look checks for old tasks, where more wait than it can serve.
const AGE_OWNERS: i64 = 8;
/// Owners beyond a route's own window that are looked at where other routes are open too: who gets something there has
/// had a turn.
const OTHER_ROUTES: i64 = 8;
/// Owners that a walk passes over because nothing of theirs fits.
const UNFIT_OWNERS: i64 = 200;

/// Walks from owner to owner, in order of their ids and beginning after `$4`, until `$5` of them have nothing under way
/// and something that fits, or `$6` have been met. Of each the oldest task; where that does not fit, the first of its
/// oldest that does, and where none of these does, the smallest.
const WALK: &str = "
    with recursive seeds as (
        select s.* from unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
            with ordinality as s(arch, memory_class, priority, start, wanted, most, fit_mib, seed)
    ), walk as (
        select s.*, s.start as owner_id, 9223372036854775807 as until, 0::bigint as fresh, 0::bigint as steps,
            null::bigint as id, null::integer as memory_mib, null::timestamptz as created_at, false as is_fresh
        from seeds s
        union all
        select w.arch, w.memory_class, w.priority, w.start, w.wanted, w.most, w.fit_mib, w.seed, n.owner_id, n.until,
            w.fresh + (u.is_fresh and coalesce(f.id, n.id) is not null)::integer, w.steps + 1,
            coalesce(n.id, f.id), coalesce(n.memory_mib, f.memory_mib), coalesce(n.created_at, f.created_at), u.is_fresh
        from walk w cross join lateral (
            select o.owner_id, o.until, case when o.memory_mib <= w.fit_mib then o.id end as id,
                case when o.memory_mib <= w.fit_mib then o.memory_mib end as memory_mib,
                case when o.memory_mib <= w.fit_mib then o.created_at end as created_at
            from (
                (select t.owner_id, t.id, t.memory_mib, t.created_at, w.until from tasks t
                where t.arch = w.arch and t.memory_class = w.memory_class and t.priority = w.priority
                    and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0 and t.id <> all($10::bigint[])
                    and t.owner_id > w.owner_id and t.owner_id <= w.until
                order by t.owner_id, t.id limit 1)
                union all
                (select t.owner_id, t.id, t.memory_mib, t.created_at, w.start from tasks t
                where t.arch = w.arch and t.memory_class = w.memory_class and t.priority = w.priority
                    and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0 and t.id <> all($10::bigint[])
                    and w.until > w.start and t.owner_id <= w.start
                order by t.owner_id, t.id limit 1)
            ) o limit 1
        ) n cross join lateral (
            select not exists (select from tasks t where t.owner_id = n.owner_id
                and t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')) as is_fresh
        ) u left join lateral (
            (select o.* from (
                select t.id, t.memory_mib, t.created_at from tasks t
                where n.id is null and t.arch = w.arch and t.memory_class = w.memory_class and t.priority = w.priority
                    and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0
                    and t.owner_id = n.owner_id and t.id <> all($10::bigint[])
                order by t.id limit 16
            ) o where o.memory_mib <= w.fit_mib order by o.id limit 1)
            union all
            (select t.id, t.memory_mib, t.created_at from tasks t
            where n.id is null and t.arch = w.arch and t.memory_class = w.memory_class and t.priority = w.priority
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.owner_id > 0
                and t.owner_id = n.owner_id and t.memory_mib <= w.fit_mib and t.id <> all($10::bigint[])
            order by t.memory_mib, t.id limit 1)
            limit 1
        ) f on true
        where w.fresh < w.wanted and w.steps < w.most
    )
    select w.seed, w.owner_id, w.is_fresh, w.id, w.memory_mib::bigint,
        least(2, w.priority + floor(extract(epoch from now() - w.created_at)::float8 / $8))::smallint as class,
        coalesce(a.max_running, $9)::bigint as most
    from walk w join accounts a on a.id = w.owner_id
    where w.steps > 0 order by w.seed, w.steps";

/// Owners with something under way.
const UNDER_WAY: &str = "
    select c.owner_id, c.tasks, coalesce(a.max_running, $1)::bigint
    from (
        select t.owner_id, count(*) as tasks from tasks t
        where t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')
        group by t.owner_id
    ) c join accounts a on a.id = c.owner_id";

/// Lines and their owners, as far as a release looks at them.
pub(crate) struct Found {
    pub(crate) lines: Vec<Line>,
    pub(crate) owners: HashMap<i64, UnderWay>,
    walks: Vec<Walked>,
}

/// A walk, and whom it met, in order.
struct Walked {
    walk: Walk,
    window: usize,
    start: i64,
    wanted: i64,
    most: i64,
    met: Vec<Met>,
}

struct Met {
    owner_id: i64,
    /// Nothing of the owner is under way and something of this line fits.
    has_turn: bool,
}

#[derive(FromRow)]
struct Step {
    seed: i64,
    owner_id: i64,
    is_fresh: bool,
    id: Option<i64>,
    memory_mib: Option<i64>,
    class: Option<i16>,
    most: i64,
}

impl Found {
    /// The lines among which these windows choose; tasks that were `kept` room for are passed over.
    pub(crate) async fn read(
        tx: &mut Tx,
        rota: &Rota,
        windows: &[Window],
        kept: &[Ready],
        config: &ReleaseConfig,
    ) -> Result<Self, StoreError> {
        let owners: Vec<(i64, i64, i64)> = sqlx::query_as(UNDER_WAY)
            .bind(int4(config.owner_running))
            .fetch_all(&mut **tx)
            .await?;
        let walks = plan(rota, windows, owners.len());
        let numbers = |number: fn(&Walked) -> i64| walks.iter().map(number).collect::<Vec<_>>();
        let steps: Vec<Step> = sqlx::query_as(WALK)
            .bind(walks.iter().map(|w| &*w.walk.arch).collect::<Vec<_>>())
            .bind(
                walks
                    .iter()
                    .map(|w| &*w.walk.memory_class)
                    .collect::<Vec<_>>(),
            )
            .bind(walks.iter().map(|w| w.walk.priority).collect::<Vec<_>>())
            .bind(numbers(|w| w.start))
            .bind(numbers(|w| w.wanted))
            .bind(numbers(|w| w.most))
            .bind(
                walks
                    .iter()
                    .map(|w| windows[w.window].fit_mib)
                    .collect::<Vec<_>>(),
            )
            .bind(int4(config.age_seconds.max(1)))
            .bind(int4(config.owner_running))
            .bind(kept.iter().map(|ready| ready.task_id).collect::<Vec<_>>())
            .fetch_all(&mut **tx)
            .await?;
        let under_way = |(owner, tasks, most)| (owner, UnderWay { tasks, most });
        let mut found = Self {
            lines: Vec::new(),
            owners: owners.into_iter().map(under_way).collect(),
            walks,
        };
        for ready in kept {
            let nothing = UnderWay {
                tasks: 0,
                most: ready.most,
            };
            found.owners.entry(ready.owner_id).or_insert(nothing).tasks += 1;
        }
        found.take_in(steps);
        Ok(found)
    }

    fn take_in(&mut self, steps: Vec<Step>) {
        let mut counted = HashSet::new();
        for step in steps {
            // Seeds are numbered from 1, in the order in which they were sent.
            let seed = usize::try_from(step.seed - 1).ok();
            let Some(walked) = seed.and_then(|seed| self.walks.get_mut(seed)) else {
                continue;
            };
            walked.met.push(Met {
                owner_id: step.owner_id,
                has_turn: step.is_fresh && step.id.is_some(),
            });
            let nothing = UnderWay {
                tasks: 0,
                most: step.most,
            };
            self.owners.entry(step.owner_id).or_insert(nothing);
            let (window, priority) = (walked.window, walked.walk.priority);
            if counted.insert((window, priority, step.owner_id)) {
                self.lines.push(Line {
                    window,
                    owner_id: step.owner_id,
                    priority,
                    tasks: first(&step).into_iter().collect(),
                    rest: Rest::Unread,
                });
            }
        }
    }

    /// Has the next look begin where this one stopped, with whom it had no room for.
    pub(crate) fn go_on(self, rota: &Rota, served: &HashSet<i64>) {
        for walked in self.walks {
            if !walked.is_cut_short() {
                rota.forget(&walked.walk);
                continue;
            }
            let is_passed = |met: &&Met| {
                walked.walk.purpose == Purpose::Age
                    || !met.has_turn
                    || served.contains(&met.owner_id)
            };
            let last = walked.met.iter().take_while(is_passed).last();
            let start = last.map_or(walked.start, |met| met.owner_id);
            rota.go_on_after(walked.walk, start);
        }
    }
}

impl Walked {
    /// It ended before it had met everyone.
    fn is_cut_short(&self) -> bool {
        let with_turn = self.met.iter().filter(|met| met.has_turn).count();
        let reached = |most: i64, count: usize| usize::try_from(most).is_ok_and(|m| count >= m);
        reached(self.wanted, with_turn) || reached(self.most, self.met.len())
    }
}

/// For each window a walk in each class of priority. Where the last look did not meet everyone, a second one looks for
/// tasks that have grown old meanwhile.
fn plan(rota: &Rota, windows: &[Window], owners_under_way: usize) -> Vec<Walked> {
    let all: i64 = windows.iter().map(|window| window.size).sum();
    let owners_under_way = i64::try_from(owners_under_way).unwrap_or(i64::MAX / 2);
    let mut walks = Vec::new();
    for (index, window) in windows.iter().enumerate() {
        for priority in PRIORITIES {
            let walk = |purpose| Walk {
                arch: window.arch.clone(),
                memory_class: window.memory_class.clone(),
                priority,
                purpose,
            };
            let mut add = |walk: Walk, wanted: i64, most: i64| {
                walks.push(Walked {
                    start: rota.start(&walk).unwrap_or_default(),
                    walk,
                    window: index,
                    wanted,
                    most,
                    met: Vec::new(),
                });
            };
            let wanted = all.min(window.size + OTHER_ROUTES);
            let turns = walk(Purpose::Turns);
            if rota.start(&turns).is_some() && priority < PRIORITIES[0] {
                add(walk(Purpose::Age), AGE_OWNERS, AGE_OWNERS);
            }
            add(turns, wanted, wanted + owners_under_way + UNFIT_OWNERS);
        }
    }
    walks
}

fn first(step: &Step) -> Option<Waiting> {
    Some(Waiting {
        id: step.id?,
        memory_mib: step.memory_mib?,
        class: step.class?,
    })
}
