/** A number in the server's answers; NaN and infinities, which JSON lacks, are strings. */
export type Num = number | string | null;

export interface Range { min: number; max: number; lower_is_better: boolean }

export interface Run {
  key: string; name: string; folder: string; ranges: Record<string, Range>; rollouts: number; discarded: number;
  first_step: number | null; last_step: number | null; steps: number; reward: number | null; started: string | null;
  environments: string | null; models: string | null; tasks: number; errors: number; metrics: string[];
  running: number; tokens: number | null; cost: number | null; duration: number | null;
  /** Of each metric the number of values and their range. */
  observed: Record<string, { count: number; min: number | null; max: number | null }>;
}

export interface Runs {
  runs: Run[];
  damage: { folder: string; lines: number; first: string }[];
  progress: { done: number; total: number };
}

/** A step: all its rollouts, kept and discarded; `groups` are those of the page that asks. */
export interface Step { step: number | null; rollouts: number; kept: number; discarded: number; groups: number; reward: number | null }

export interface Label { rating: number | null; tags: string[]; noted?: boolean; note?: string }

export interface Card {
  id: string; name: string | null; group: string; sample: number | null; step: number | null; reward: Num; advantage: Num;
  tokens: number | null; turns: number; calls: number; status: string; stop: string | null; discard: string | null;
  index: number | null; metrics: Record<string, Num>; errors?: number; unnoticed_errors?: number; input_tokens?: number | null;
  cost?: Num; policy_s?: Num; environment_s?: Num; duration?: Num; label?: Label; run?: string; started?: string | null;
}

export interface Group { group: string; prompt: string; task: string | null; cards: Card[] }

/** A page of a list: `rollouts` is the number on all pages, `sizes` the sizes of all groups as [size, number of groups]. */
export interface Listing { groups: Group[]; next: number | null; offset: number; rollouts: number; sizes: [number, number][] }

/** A change of a label, of one reader at one time. */
export interface LabelChange {
  author?: string; time: string; set?: { rating?: number | null; note?: string; tags?: string[] }; add?: string[]; remove?: string[];
  overwritten?: { author: string; time: string; note: string };
}

/** What may change while a rollout is open. */
export interface About { label: (Label & { note: string }) | null; history: LabelChange[]; problem: string | null }

/** The state of a rollout that is being recorded. */
export interface Running { writing: boolean; written_at: string; messages: number }

/** A message in the table of contents of a rollout that comes in pieces. */
export interface OutlineEntry { role: string; origin?: string; tools?: string[]; is_error?: boolean; reward?: Num; text?: string; length: number }

export interface Block {
  /** The lengths of the texts of which only the beginning is here, by field; see `opened.ts`. */
  cut?: Record<string, number>;
  type: string; text?: string | null; content?: string | null; summary?: string | null; content_reference?: string | null;
  call_id?: string; name?: string; arguments?: unknown; data?: string | null; sha256?: string | null; mimeType?: string;
}

export interface Usage { input_tokens?: number | null; output_tokens?: number | null; cached_tokens?: number | null; reasoning_tokens?: number | null }

/** A provider's report on one sampled message. */
export interface Sampled {
  /** Recorded tokens that were not sent, and their number. */
  left_out?: { tokens: number | null };
  usage?: Usage | null; stop_reason?: string | null; token_ids?: number[] | null; logprobs?: Num[] | null; prompt_token_ids?: number[] | null;
  model?: string | null; cost_usd?: Num; duration_s?: Num;
}

export interface Message {
  role: string; blocks?: Block[]; origin?: "given" | "policy" | "environment" | "client" | null; weight?: Num; call_id?: string | null;
  name?: string | null; is_error?: boolean; reward?: Num; finished?: boolean; ended?: string | null; sampled?: Sampled | null;
  started_at?: string | null; ended_at?: string | null; metadata?: unknown;
}

export interface Rollout {
  id: string; run?: string; name?: string; status: string; stop_reason?: string; error?: string | null;
  environment?: { name?: string; variant?: string | null; split?: string | null; origin?: string | null };
  task?: { id?: string; index?: number | null; spec?: unknown; golden_answer?: unknown };
  group?: string | null; sample?: number | null; step?: number | null; advantage?: Num; discard_reason?: string | null;
  model?: Record<string, unknown> | null; sampling?: Record<string, unknown> | null; tools?: unknown[] | null;
  messages?: Message[]; reward?: Num; final_reward?: Num; metrics?: Record<string, Num> | null; usage?: Usage | null;
  started_at?: string | null; ended_at?: string | null; cost_usd?: Num; seed?: number | null;
  terminal_tool?: { name: string } | null; timing?: Record<string, Num> | null; versions?: unknown; metadata?: Record<string, unknown> | null;
}

export interface Opened {
  run: string; place: { step: number | null; group: string; discarded: boolean }; label: Label & { note: string };
  rollout: Rollout;
  /** The changes of the label, the first one first. */
  history?: LabelChange[];
  /** Of a large rollout, the number of the next message that is not here; null or absent when all are. */
  next?: number | null;
  outline?: OutlineEntry[];
  /** While it is being recorded. */
  running?: Running;
}

export interface Series {
  run: string; metric: string; which?: string; unit?: string; nan: number; infinite: number;
  steps: number[]; count: number[]; mean: (number | null)[]; std: (number | null)[];
  min: (number | null)[]; max: (number | null)[]; p05: (number | null)[]; p25: (number | null)[]; p50: (number | null)[];
  p75: (number | null)[]; p95: (number | null)[];
}

/** Histograms with the same bins: one for each run and kind of rollouts, runs first. */
export interface Histograms {
  metric: string; edges: number[]; integers: boolean; unit: string;
  histograms: { run: string; which: string; counts: number[]; nan: number; infinite: number }[];
}

export interface ChartMetric { name: string; about: string }

/** The metrics that charts offer. */
export interface ChartMetrics { built_in: ChartMetric[]; shares: ChartMetric[]; own: ChartMetric[] }
