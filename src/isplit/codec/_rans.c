/* The compiled coder as a Python module, isplit.codec._rans: buffers in, bytes out (compiled_rans.py calls it).
 *
 * Only the stable ABI of Python 3.11 is used, so that one file serves that version and all later ones.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <string.h>

#include "_rans_core.h"

/* A thread that lets go of the interpreter waits until it gets it again, 5 ms at worst. So much work is worth it. */
#define SYMBOLS_TO_RELEASE 4096

static int read_tables(rans_tables *tables, const Py_buffer *frequencies, const Py_buffer *starts, Py_ssize_t rows,
                       Py_ssize_t lanes) {
    Py_ssize_t entries = frequencies->len / 2;
    if (rows < 1 || lanes < 1 || frequencies->len % 2 || starts->len != frequencies->len || entries % rows ||
        (uintptr_t)frequencies->buf % sizeof(uint16_t) || (uintptr_t)starts->buf % sizeof(uint16_t)) {
        PyErr_SetString(PyExc_ValueError, "frequencies and starts must be aligned uint16 of (tables, levels)");
        return 0;
    }
    tables->frequencies = frequencies->buf;
    tables->starts = starts->buf;
    tables->tables = (size_t)rows;
    tables->levels = (size_t)(entries / rows);
    tables->lanes = (size_t)lanes;
    return 1;
}

static void raise_status(rans_status status, size_t where, size_t lanes, Py_ssize_t count) {
    switch (status) {
    case RANS_BAD_SYMBOL:
        PyErr_Format(PyExc_ValueError, "has a symbol at %zu that the tables do not have", where);
        break;
    case RANS_BAD_TABLE:
        PyErr_Format(PyExc_ValueError, "has a symbol at %zu whose frequency is 0", where);
        break;
    case RANS_BAD_STATE:
        PyErr_Format(PyExc_ValueError, "has the state %zu", where);
        break;
    case RANS_TOO_SHORT:
        PyErr_SetString(PyExc_ValueError, "is shorter than its states, or has half a word");
        break;
    case RANS_NO_WORD:
        PyErr_Format(PyExc_ValueError, "ends after %zu of %zd symbols", where / lanes * lanes, count);
        break;
    case RANS_BAD_END:
        PyErr_Format(PyExc_ValueError, "does not end with its %zd symbols", count);
        break;
    default:
        PyErr_SetString(PyExc_ValueError, "cannot be of these tables, lanes and symbols");
    }
}

PyDoc_STRVAR(encode_doc, "encode(symbols, frequencies, starts, tables, lanes) -> bytes\n\n"
                         "Encode symbols (uint8) with tables of uint16, laid end to end. ValueError says what is wrong.");

static PyObject *encode(PyObject *module, PyObject *arguments) {
    Py_buffer symbols, frequencies, starts;
    Py_ssize_t rows, lanes;
    PyObject *payload = NULL;
    rans_tables tables;
    (void)module;

    if (!PyArg_ParseTuple(arguments, "y*y*y*nn:encode", &symbols, &frequencies, &starts, &rows, &lanes)) return NULL;
    if (read_tables(&tables, &frequencies, &starts, rows, lanes)) {
        size_t count = (size_t)symbols.len, first = 0, where = 0;
        if (!rans_usable(&tables, count)) {
            raise_status(RANS_BAD_ARGUMENTS, 0, 1, symbols.len);
        } else {
            size_t room_bytes = rans_max_bytes(&tables, count);
            uint8_t *room = PyMem_Malloc(room_bytes);
            if (room == NULL) {
                PyErr_NoMemory();
            } else {
                rans_status status;
                if (count < SYMBOLS_TO_RELEASE) {
                    status = rans_encode(&tables, symbols.buf, count, room, &first, &where);
                } else {
                    Py_BEGIN_ALLOW_THREADS
                    status = rans_encode(&tables, symbols.buf, count, room, &first, &where);
                    Py_END_ALLOW_THREADS
                }
                if (status == RANS_OK)
                    payload = PyBytes_FromStringAndSize((const char *)room + first, (Py_ssize_t)(room_bytes - first));
                else
                    raise_status(status, where, rans_lanes(&tables, count), symbols.len);
                PyMem_Free(room);
            }
        }
    }
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&frequencies);
    PyBuffer_Release(&starts);
    return payload;
}

PyDoc_STRVAR(decode_doc, "decode(payload, symbols, frequencies, starts, tables, lanes) -> None\n\n"
                         "Decode a payload into the writable buffer `symbols`, filling it exactly. ValueError says what "
                         "is wrong; the buffer's content is then undefined.");

static PyObject *decode(PyObject *module, PyObject *arguments) {
    Py_buffer payload, symbols, frequencies, starts;
    Py_ssize_t rows, lanes;
    PyObject *result = NULL;
    rans_tables tables;
    (void)module;

    if (!PyArg_ParseTuple(arguments, "y*w*y*y*nn:decode", &payload, &symbols, &frequencies, &starts, &rows, &lanes))
        return NULL;
    if (read_tables(&tables, &frequencies, &starts, rows, lanes)) {
        size_t count = (size_t)symbols.len, length = (size_t)payload.len, where = 0;
        rans_status status;
        if (count < SYMBOLS_TO_RELEASE) {
            status = rans_decode(&tables, payload.buf, length, symbols.buf, count, &where);
        } else {
            Py_BEGIN_ALLOW_THREADS
            status = rans_decode(&tables, payload.buf, length, symbols.buf, count, &where);
            Py_END_ALLOW_THREADS
        }
        if (status == RANS_OK)
            result = Py_NewRef(Py_None);
        else
            raise_status(status, where, status == RANS_NO_WORD ? rans_lanes(&tables, count) : 1, symbols.len);
    }
    PyBuffer_Release(&payload);
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&frequencies);
    PyBuffer_Release(&starts);
    return result;
}

static PyMethodDef methods[] = {
    {"encode", encode, METH_VARARGS, encode_doc},
    {"decode", decode, METH_VARARGS, decode_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "isplit.codec._rans", "Interleaved rANS in C; see isplit.codec.rans.", 0, methods, slots,
    NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__rans(void) { return PyModuleDef_Init(&module_definition); }
