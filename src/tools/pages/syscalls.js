// The page of `syscalls`: the report is its JSON.
tools.syscalls = (reports, box) => {
    for (const {report: r} of reports) {
        const sum = key => r.calls.reduce((s, c) => s + c[key], 0);
        const all = sum('calls'), ns = sum('nanoseconds'), errors = sum('errors');
        const slowest = r.calls.reduce((a, b) => b.slowest > a.slowest ? b : a, {name: '', slowest: 0});
        box.append(tiles([['Calls', count(all), plural(r.calls.length, 'kind') + ' of call'], ['Time', duration(ns)],
            ['Errors', count(errors)], ['Slowest', duration(slowest.slowest), slowest.name]]));
        box.append(section('Time, calls, errors, and how long calls took', grid(r.calls.slice(0, 40), ns, all),
            note('On the right: how many calls took how long, in powers of two; the height is by the logarithm.')));
        box.append(section('All calls', sortable([
            {title: 'Time', value: c => c.nanoseconds, bar: ns, show: c => duration(c.nanoseconds)},
            {title: 'Each', value: c => c.nanoseconds / c.calls, show: (c, v) => duration(v)},
            {title: 'Calls', value: c => c.calls, bar: all}, {title: 'Errors', value: c => c.errors},
            {title: 'Slowest', value: c => c.slowest, show: c => duration(c.slowest)},
            {title: 'Call', value: c => clean(c.name), text: true},
            {title: 'Which errors', text: true,
                value: c => Object.entries(c.by_error).map(([name, n]) => `${name} ${count(n)}`).join(', ')}], r.calls)));
    }

    function grid(calls, ns, all) {
        const ROW = 24, TOP = 20, L = 150, TIME = 230, CALLS = 150, HIST = 280, WIDTH = 1000;
        const x = {time: L + 10, calls: L + TIME + 80, errors: L + TIME + CALLS + 125, hist: WIDTH - HIST};
        const bounds = calls.flatMap(c => Object.keys(c.within).map(Number));
        const low = Math.log2(Math.min(...bounds)), high = Math.log2(Math.max(...bounds));
        const step = HIST / Math.max(high - low + 1, 8);
        const most = Math.log1p(Math.max(...calls.flatMap(c => Object.values(c.within))));
        const top = Math.max(...calls.map(c => c.nanoseconds)) || 1, top_calls = Math.max(...calls.map(c => c.calls)) || 1;
        const svg = picture(WIDTH, TOP + calls.length * ROW + 20, 'System calls');
        for (const [name, at] of [['time', x.time], ['calls', x.calls], ['errors', x.errors], ['how long', x.hist]])
            svg.append(label(at, 13, name, {class: 'dim'}));
        calls.forEach((c, i) => {
            const y = TOP + i * ROW, rect = (at, width, fill) => shape('rect', {x: at, y: y + 4,
                width: Math.max(width, width ? 1 : 0).toFixed(2), height: ROW - 8, rx: 2, style: `fill: ${fill}`});
            const row = shape('g', {class: 'on'}, shape('rect', {x: 0, y, width: WIDTH, height: ROW - 1, style: 'fill: transparent'}),
                label(L, y + 16, cut(clean(c.name), 22), {'text-anchor': 'end'}),
                rect(x.time, TIME * c.nanoseconds / top, 'var(--c0)'),
                label(x.time + TIME * c.nanoseconds / top + 6, y + 16, duration(c.nanoseconds), {class: 'dim'}),
                rect(x.calls, CALLS * c.calls / top_calls, 'var(--c2)'),
                label(x.calls + CALLS * c.calls / top_calls + 6, y + 16, short(c.calls), {class: 'dim'}));
            if (c.errors) row.append(label(x.errors, y + 16, short(c.errors), {style: 'fill: var(--bad)'}));
            for (const [bound, n] of Object.entries(c.within)) {
                const height = Math.max(2, (ROW - 6) * Math.log1p(n) / most);
                row.append(shape('rect', {x: (x.hist + (Math.log2(bound) - low) * step).toFixed(1), width: (step - 1).toFixed(1),
                    y: (y + ROW - 3 - height).toFixed(1), height: height.toFixed(1), style: 'fill: var(--c4)'}));
            }
            svg.append(withTip(row, () => [make('b', {}, clean(c.name)),
                make('div', {}, `${plural(c.calls, 'call')} (${share(c.calls, all)}), ${duration(c.nanoseconds)} (${share(c.nanoseconds, ns)})`),
                ...Object.entries(c.by_error).map(([name, n]) => make('div', {}, `${name}: ${count(n)}`)),
                ...Object.entries(c.within).map(([bound, n]) => make('div', {className: 'dim'},
                    `${duration(bound / 2)} to ${duration(Number(bound))}: ${count(n)}`))]));
        });
        const bottom = TOP + calls.length * ROW + 14;
        for (let p = Math.ceil(low); p <= high + 1; p++)
            if ([10, 13, 17, 20, 23, 27, 30, 33].includes(p)) // 1 us, 8 us, 128 us, 1 ms...
                svg.append(label(x.hist + (p - low) * step, bottom, duration(2 ** p), {class: 'dim', 'text-anchor': 'middle'}));
        return svg;
    }
};
