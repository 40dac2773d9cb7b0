/** A row of the list: the head of a group, or the rollout with that number in the list. */
export interface RowPlace { head: boolean; offset: number; size: number; sample: number }

export interface Layout { rows: number; groups: number; at: (row: number) => RowPlace; rowOf: (offset: number) => number; groupStart: (group: number) => number }

interface Part { size: number; times: number; row: number; offset: number; group: number }

/** The rows of a list of groups, whose sizes are given as [size, number of groups]. */
export function grouped(sizes: [number, number][]): Layout {
  const parts: Part[] = [];
  let [row, offset, group] = [0, 0, 0];
  for (const [size, times] of sizes) {
    parts.push({ size, times, row, offset, group });
    row += times * (size + 1);
    offset += times * size;
    group += times;
  }
  return {
    rows: row, groups: group,
    at: (index) => {
      const part = last(parts, (one) => one.row <= index);
      const number = Math.floor((index - part.row) / (part.size + 1));
      const within = (index - part.row) % (part.size + 1);
      return { head: within === 0, offset: part.offset + number * part.size + Math.max(0, within - 1), size: part.size, sample: within - 1 };
    },
    rowOf: (wanted) => {
      const part = last(parts, (one) => one.offset <= wanted);
      const number = Math.floor((wanted - part.offset) / part.size);
      return part.row + number * (part.size + 1) + 1 + ((wanted - part.offset) % part.size);
    },
    groupStart: (wanted) => {
      if (!parts.length || wanted >= group) return offset;
      const part = last(parts, (one) => one.group <= wanted);
      return part.offset + (wanted - part.group) * part.size;
    },
  };
}

/** The rows of a list without groups. */
export function flat(rollouts: number): Layout {
  return { rows: rollouts, groups: 0, at: (row) => ({ head: false, offset: row, size: 1, sample: 0 }), rowOf: (offset) => offset, groupStart: (group) => group };
}

/** The last part for which `holds` is true, of parts for which it is first true and then false. */
function last(parts: Part[], holds: (part: Part) => boolean): Part {
  let [low, high] = [0, parts.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (holds(parts[middle]!)) low = middle;
    else high = middle - 1;
  }
  return parts[low]!;
}
