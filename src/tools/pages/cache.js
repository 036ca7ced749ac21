// The page of `cache`: the reports are its JSON, with "configuration" and "over_time"
// ([instructions fetched and data accessed so far, misses in l1i, l1d, l2, l3 so far]).
tools.cache = (reports, box) => {
    const all = reports.map(r => r.report), several = all.length > 1;
    const nameOf = i => several ? `${String.fromCharCode(65 + i % 26)}: ${clean(all[i].configuration)}` : clean(all[i].configuration);
    const mark = i => several ? String.fromCharCode(65 + i % 26) : '';
    const UNITS = ['l1i', 'l1d', 'l2', 'l3', 'itlb', 'dtlb', 'stlb'];
    const accesses = u => u.reads + u.writes, misses = u => u.read_misses + u.write_misses;
    const rate = u => accesses(u) ? misses(u) / accesses(u) : 0;
    const percent = v => Number((100 * v).toPrecision(3)) + ' %';
    const used = UNITS.filter(u => all.some(r => r.units[u]));

    if (several) box.append(legend(all.map((r, i) => [nameOf(i), colour(i)])));
    else box.append(note(nameOf(0)));
    box.append(tiles(used.map(u => [u, all.map(r => r.units[u] ? percent(rate(r.units[u])) : '-').join(' / '),
        all.map(r => r.units[u] ? short(misses(r.units[u])) : '-').join(' / ') + ' misses'])));
    box.append(section('Miss rates', bars('Miss rates', used.flatMap(u => all.flatMap((r, i) => r.units[u] ? [{
        name: several ? `${u}  ${mark(i)}` : u, value: rate(r.units[u]), fill: colour(several ? i : 0),
        text: `${percent(rate(r.units[u]))}  ${short(misses(r.units[u]))}`,
        tip: [make('div', {className: 'dim'}, nameOf(i)),
            make('div', {}, `${count(misses(r.units[u]))} misses of ${count(accesses(r.units[u]))} accesses`),
            make('div', {}, `${count(r.units[u].writebacks)} lines written back`)]}] : [])))));

    // Misses over the run, of 1000 accesses, in the same scale for all.
    const timed = all.filter(r => r.over_time && r.over_time.length > 2);
    if (timed.length) {
        const level = make('select', {ariaLabel: 'Cache'}, ...['l1i', 'l1d', 'l2', 'l3'].filter(u => used.includes(u)).map(u =>
            make('option', {value: u}, u)));
        const place = make('div');
        const drawTime = () => {
            const column = ['l1i', 'l1d', 'l2', 'l3'].indexOf(level.value) + 1;
            place.replaceChildren(lines('Misses over the run', all.flatMap((r, i) => r.over_time && r.over_time.length > 2 ? [{
                name: several ? mark(i) : level.value, fill: colour(several ? i : 0),
                points: r.over_time.slice(1).flatMap((p, k) => { // steps: a rate is that of the time in between
                    const before = r.over_time[k], v = 1000 * (p[column] - before[column]) / ((p[0] - before[0]) || 1);
                    return [[before[0], v], [p[0], v]];
                })}] : []), {xName: 'accesses so far', yName: 'misses of 1000 accesses'}).svg);
        };
        level.value = 'l1d';
        level.addEventListener('change', drawTime);
        drawTime();
        box.append(section('Over the run', make('label', {}, 'Misses in ', level), place));
    }

    places('Functions', r => r.functions, f => `${placeOf(f)} ${moduleOf(f)}`, [
        {title: 'Function', value: placeOf, text: true}, {title: 'Module', value: moduleOf, text: true}], placeOf);
    places('Lines', r => r.lines, l => `${l.file}:${l.line}`, [
        {title: 'Line', value: l => `${clean(l.file)}:${l.line}`, text: true},
        {title: 'Function', value: placeOf, text: true}], l => `${clean(base(l.file))}:${l.line}`);
    places('Instructions', r => r.instructions, i => String(i.address), [
        {title: 'Address', value: i => i.address, show: i => hex(i.address)},
        {title: 'Function', value: placeOf, text: true}, {title: 'Module', value: moduleOf, text: true}],
        i => `${hex(i.address)} ${i.function ? placeOf(i) : moduleOf(i)}`);

    // A table of one kind of place: with one report a column a level, with several a column each.
    function places(title, rowsOf, keyOf, words, nameOfRow) {
        const rows = new Map();
        all.forEach((r, i) => rowsOf(r).forEach(p => {
            const key = keyOf(p), row = rows.get(key) || rows.set(key, {...p, by: all.map(() => null)}).get(key);
            row.by[i] = p;
        }));
        if (!rows.size) return;
        const list = [...rows.values()], place = make('div'), LEVELS = ['l1', 'l2', 'l3', 'tlb', 'stlb'];
        const at = (row, i, level) => row.by[i] ? row.by[i][level] : 0;
        const level = make('select', {ariaLabel: 'Level'}, ...LEVELS.filter(k => list.some(row => row.by.some((p, i) =>
            at(row, i, k)))).map(k => make('option', {value: k}, k)));
        const fill = () => {
            const most = k => Math.max(...list.flatMap(row => all.map((r, i) => at(row, i, k))));
            const columns = several ? all.map((r, i) => ({title: mark(i), value: row => at(row, i, level.value), bar: most(level.value)}))
                : LEVELS.map(k => ({title: k + ' misses', value: row => at(row, 0, k), bar: most(k)}));
            const first = [...list].sort((a, b) => at(b, 0, level.value || 'l1') - at(a, 0, level.value || 'l1')).slice(0, 15);
            const shown = several ? first.flatMap(row => all.map((r, i) => ({name: `${nameOfRow(row)}  ${mark(i)}`, row, i})))
                : first.map(row => ({name: nameOfRow(row), row, i: 0}));
            place.replaceChildren(bars(title, shown.map(({name, row, i}) => ({name, value: at(row, i, level.value),
                text: short(at(row, i, level.value)), fill: colour(several ? i : 0),
                tip: LEVELS.map(k => make('div', {}, `${k}: ${count(at(row, i, k))} misses`))}))),
                make('h3', {}, 'All of them'), sortable([...columns, ...words], list));
        };
        level.addEventListener('change', fill);
        fill();
        box.append(section(title, make('label', {}, 'Misses in ', level), place));
    }
};
