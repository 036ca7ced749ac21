// The page of `hot`: the report is its JSON, with "source" ([which instruction, file, line]) and
// "host" (the host's instructions) for blocks where they are known.
tools.hot = (reports, box) => {
    for (const {report: r} of reports) {
        const all = r.instructions, insns = b => b.entered * b.size;
        const inside = l => r.blocks.filter(b => b.address >= l.address && b.address < l.end);
        const details = make('section', {className: 'details', hidden: true});
        const functions = [...new Set(r.blocks.map(placeOf))];
        const fill = b => colour(functions.indexOf(placeOf(b)));
        const show = (title, blocks) => {
            details.hidden = false;
            details.replaceChildren(make('h2', {}, title), ...blocks.slice(0, 40).map(b => code(b, all)));
            details.scrollIntoView({block: 'nearest'});
        };
        const openBlock = b => show(`Block ${hex(b.address)}`, [b]);
        const openLoop = l => show(`Loop ${hex(l.address)} to ${hex(l.end)}`,
            inside(l).sort((a, b) => a.address - b.address));
        const top = r.blocks[0];
        box.append(tiles([['Instructions', count(all)],
            ['Hottest block', top ? share(insns(top), all) : '-', top ? placeOf(top) : ''],
            ['Ten hottest blocks', share(r.blocks.slice(0, 10).reduce((s, b) => s + insns(b), 0), all)],
            ['Loops', count(r.loops.length)]]));
        box.append(section('Hottest blocks', note('A click shows the code.'),
            bars('Hottest blocks', r.blocks.slice(0, 20).map(b => ({name: `${hex(b.address)} ${b.function ? placeOf(b) : moduleOf(b)}`,
                value: insns(b), text: `${share(insns(b), all)}  ${short(b.entered)} times`, fill: fill(b), open: () => openBlock(b),
                tip: [make('div', {}, `${plural(b.size, 'instruction')}, entered ${count(b.entered)} times`), listing(b, 12)]})))));
        if (r.loops.length)
            box.append(section('Hottest loops', bars('Hottest loops', r.loops.slice(0, 15).map(l => ({
                name: `${hex(l.address)} ${l.function ? placeOf(l) : moduleOf(l)}`, value: Math.min(l.instructions, all), fill: 'var(--c2)',
                text: `${share(l.instructions, all)}  ${short(l.iterations)} times`, open: () => openLoop(l),
                tip: [make('div', {}, `${count(l.iterations)} iterations, ${count(l.instructions)} instructions`)]})))));
        if (top) details.append(make('h2', {}, 'The hottest block'), code(top, all));
        details.hidden = !top;
        box.append(details, section('Blocks', sortable([
            {title: 'Share', value: insns, bar: all, show: b => share(insns(b), all)},
            {title: 'Instructions', value: insns}, {title: 'Entered', value: b => b.entered},
            {title: 'Size', value: b => b.size}, {title: 'Address', value: b => b.address, show: b => hex(b.address)},
            {title: 'Function', value: placeOf, text: true}, {title: 'Module', value: moduleOf, text: true},
            {title: 'Source', value: sourceOf, text: true}], r.blocks, {open: openBlock})));
        if (r.loops.length)
            box.append(section('Loops', sortable([
                {title: 'Share', value: l => l.instructions, bar: all, show: l => share(l.instructions, all)},
                {title: 'Instructions', value: l => l.instructions}, {title: 'Iterations', value: l => l.iterations},
                {title: 'From', value: l => l.address, show: l => hex(l.address)},
                {title: 'To', value: l => l.end, show: l => hex(l.end)}, {title: 'Function', value: placeOf, text: true},
                {title: 'Module', value: moduleOf, text: true}], r.loops, {open: openLoop})));
    }

    function sourceOf(b) {
        const s = b.source && b.source[0];
        return s ? `${clean(base(s[1]))}:${s[2]}` : '';
    }
    // Guest code, an instruction a line, with the source line where another one begins.
    function listing(b, most) {
        const lines = [], source = new Map((b.source || []).map(s => [s[0], s]));
        (b.code || []).slice(0, most).forEach((text, i) => {
            const s = source.get(i);
            if (s) lines.push(`${clean(s[1])}:${s[2]}`);
            lines.push(`  ${(b.address + 4 * i).toString(16)}:  ${clean(text)}`);
        });
        if (b.code && b.code.length > most) lines.push('  ...');
        return make('pre', {className: 'code'}, lines.join('\n'));
    }
    function code(b, all) {
        const insns = b.entered * b.size;
        return make('div', {}, make('h3', {}, `${hex(b.address)} ${placeOf(b)} ${moduleOf(b)}`),
            make('div', {className: 'dim'}, `${share(insns, all)}: ${plural(b.size, 'instruction')}, entered ${count(b.entered)} times`),
            make('div', {className: 'columns'}, make('div', {}, make('h3', {}, 'Guest code'), listing(b, 1000)),
                ...(b.host ? [make('div', {}, make('h3', {}, 'What it became, counting included'),
                    make('pre', {className: 'code'}, b.host.map(clean).join('\n')))] : [])));
    }
};
