"""models.py - what instructions do that the packaged qemu-aarch64 does not have, from the architecture's
pseudocode, independently of the lifters. MODELS: row name -> function(fields, x) that returns the new
value of Xd; x are the 32 registers before (x[31]: as the zero register)."""


def signed(v, bits):
    return v - (1 << bits) if v >> (bits - 1) else v


def reg(fields, x, name):
    bits = 64 if fields['sf'] else 32
    v = 0 if fields[name] == 31 else x[fields[name]]
    return v & ((1 << bits) - 1), bits


def ctz(f, x):
    v, bits = reg(f, x, 'rn')
    return bits if not v else (v & -v).bit_length() - 1


def cnt(f, x):
    return bin(reg(f, x, 'rn')[0]).count('1')


def absolute(f, x):
    v, bits = reg(f, x, 'rn')
    return abs(signed(v, bits)) & ((1 << bits) - 1)


def extreme(pick, is_signed, immediate):
    def model(f, x):
        a, bits = reg(f, x, 'rn')
        mask = (1 << bits) - 1
        if not immediate:
            b = reg(f, x, 'rm')[0]
        else:
            b = (signed(f['imm8'] & 0xff, 8) if is_signed else f['imm8']) & mask
        if is_signed:
            return pick(signed(a, bits), signed(b, bits)) & mask
        return pick(a, b)
    return model


MODELS = {'ctz': ctz, 'cnt': cnt, 'abs': absolute}
for name, pick in (('max', max), ('min', min)):
    for letter, is_signed in (('s', True), ('u', False)):
        MODELS[f'{letter}{name}_reg'] = extreme(pick, is_signed, False)
        MODELS[f'{letter}{name}_imm'] = extreme(pick, is_signed, True)
