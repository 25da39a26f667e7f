/* libjpeg reports errors by a function that must not return. Here it jumps back out of the decoder,
 * and the caller gets the message: no unwinding through C, no exit. See jpeg.rs. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

struct failure {
    struct jpeg_error_mgr manager; /* first, so that a pointer to one is a pointer to both */
    jmp_buf out;
    char *message; /* JMSG_LENGTH_MAX bytes */
    int hit_end;   /* the data ended before the picture */
};

static void fail(j_common_ptr info) {
    struct failure *failure = (struct failure *)info->err;
    info->err->format_message(info, failure->message);
    longjmp(failure->out, 1);
}

/* Warnings are not printed. The end of the data is one: libjpeg would go on with grey. */
static void warn(j_common_ptr info, int level) {
    struct failure *failure = (struct failure *)info->err;
    if (level < 0) {
        info->err->num_warnings++;
        if (info->err->msg_code == JWRN_JPEG_EOF) failure->hit_end = 1;
    }
}

static struct jpeg_error_mgr *prepare(struct failure *failure, char *message) {
    struct jpeg_error_mgr *manager = jpeg_std_error(&failure->manager);
    manager->error_exit = fail;
    manager->emit_message = warn;
    failure->message = message;
    failure->hit_end = 0;
    return manager;
}

/* Reads the header: width, height, channels (1, 3, or 4 for CMYK) and whether Adobe wrote it, which
 * means inverted CMYK. Returns 0, or 1 with a message. */
int resnet_jpeg_header(const uint8_t *data, size_t len, uint32_t *header, char *message) {
    struct jpeg_decompress_struct info;
    struct failure failure;
    info.err = prepare(&failure, message);
    if (setjmp(failure.out)) {
        jpeg_destroy_decompress(&info);
        return 1;
    }
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, data, (unsigned long)len);
    jpeg_read_header(&info, TRUE);
    header[0] = info.image_width;
    header[1] = info.image_height;
    header[2] = info.num_components == 1 ? 1 : info.num_components == 4 ? 4 : 3;
    header[3] = info.saw_Adobe_marker ? 1 : 0;
    jpeg_destroy_decompress(&info);
    return 0;
}

/* Copies the EXIF data behind their mark to `out`, which has room for the longest segment, 65535 bytes.
 * Returns their length, 0 if there are none or the header is broken. */
size_t resnet_jpeg_exif(const uint8_t *data, size_t len, uint8_t *out, char *message) {
    static const uint8_t mark[6] = {'E', 'x', 'i', 'f', 0, 0};
    struct jpeg_decompress_struct info;
    struct failure failure;
    info.err = prepare(&failure, message);
    if (setjmp(failure.out)) {
        jpeg_destroy_decompress(&info);
        return 0;
    }
    jpeg_create_decompress(&info);
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xffff);
    jpeg_mem_src(&info, data, (unsigned long)len);
    jpeg_read_header(&info, TRUE);
    size_t length = 0;
    for (jpeg_saved_marker_ptr at = info.marker_list; at && length == 0; at = at->next) {
        if (at->marker == JPEG_APP0 + 1 && at->data_length > sizeof mark
            && memcmp(at->data, mark, sizeof mark) == 0) {
            length = at->data_length - sizeof mark;
            memcpy(out, at->data + sizeof mark, length);
        }
    }
    jpeg_destroy_decompress(&info);
    return length;
}

/* Reads the header and begins to decode, to grey, RGB or CMYK. */
static void start(struct jpeg_decompress_struct *info, const uint8_t *data, size_t len) {
    jpeg_create_decompress(info);
    jpeg_mem_src(info, data, (unsigned long)len);
    jpeg_read_header(info, TRUE);
    info->out_color_space = info->num_components == 1   ? JCS_GRAYSCALE
                            : info->num_components == 4 ? JCS_CMYK
                                                        : JCS_RGB;
    jpeg_start_decompress(info);
}

/* Decodes all rows of the header's size and channels into `out`: grey, RGB or CMYK. Returns 0, 1 with
 * a message, or 2 if the data ended before the last row. */
int resnet_jpeg_decode(const uint8_t *data, size_t len, uint8_t *out, size_t out_len, char *message) {
    struct jpeg_decompress_struct info;
    struct failure failure;
    info.err = prepare(&failure, message);
    if (setjmp(failure.out)) {
        jpeg_destroy_decompress(&info);
        return 1;
    }
    start(&info, data, len);
    size_t stride = (size_t)info.output_width * info.output_components;
    if (out_len / stride != info.output_height || out_len % stride != 0) {
        jpeg_destroy_decompress(&info);
        strcpy(message, "the header changed between two readings");
        return 1;
    }
    while (info.output_scanline < info.output_height) {
        JSAMPROW row = out + stride * info.output_scanline;
        jpeg_read_scanlines(&info, &row, 1);
    }
    int hit_end = failure.hit_end;
    jpeg_destroy_decompress(&info);
    return hit_end ? 2 : 0;
}

/* Decodes the part of the picture that `part` (x, y, columns, rows) says into `out`, as
 * resnet_jpeg_decode would: the same pixels, and 2 for data that ends early wherever it does.
 *
 * What is left out are inverse transforms, upsampling and colours of other blocks; all entropy-coded
 * data is read. Smooth upsampling looks at neighbouring blocks, so a margin of a block is decoded on
 * each side. Skipping to the very end would not read the data, so the last row is decoded. */
int resnet_jpeg_decode_part(const uint8_t *data, size_t len, const uint32_t *part, uint8_t *out,
                            size_t out_len, char *message) {
    struct jpeg_decompress_struct info;
    struct failure failure;
    info.err = prepare(&failure, message);
    if (setjmp(failure.out)) {
        jpeg_destroy_decompress(&info);
        return 1;
    }
    start(&info, data, len);
    JDIMENSION x = part[0], y = part[1], columns = part[2], rows = part[3];
    size_t size = (size_t)columns * rows * info.output_components;
    int fits = x <= info.output_width && columns <= info.output_width - x && y <= info.output_height &&
               rows <= info.output_height - y;
    if (!fits || size != out_len || size == 0) {
        jpeg_destroy_decompress(&info);
        strcpy(message, "the part does not lie in the picture");
        return 1;
    }
    JDIMENSION across = info.max_h_samp_factor * DCTSIZE, down = info.max_v_samp_factor * DCTSIZE;
    JDIMENSION left = x < across ? 0 : x - across, above = y < down ? 0 : y - down;
    JDIMENSION right = info.output_width - (x + columns) < across ? info.output_width : x + columns + across;
    JDIMENSION first = left, width = right - left;
    jpeg_crop_scanline(&info, &first, &width);
    JSAMPARRAY row = (*info.mem->alloc_sarray)((j_common_ptr)&info, JPOOL_IMAGE,
                                              width * info.output_components, 1);
    jpeg_skip_scanlines(&info, above);
    size_t stride = (size_t)columns * info.output_components;
    size_t skipped = (size_t)(x - first) * info.output_components;
    while (info.output_scanline < y + rows) {
        JDIMENSION at = info.output_scanline;
        jpeg_read_scanlines(&info, row, 1);
        if (y <= at) memcpy(out + (at - y) * stride, row[0] + skipped, stride);
    }
    if (info.output_scanline < info.output_height) {
        jpeg_skip_scanlines(&info, info.output_height - 1 - info.output_scanline);
        jpeg_read_scanlines(&info, row, 1);
    }
    int hit_end = failure.hit_end;
    jpeg_destroy_decompress(&info);
    return hit_end ? 2 : 0;
}
