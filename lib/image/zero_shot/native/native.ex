defmodule Image.ZeroShot.Native do
  @moduledoc false

  # The functions of `native/nif`, which work without libtorch. Loaded when the application
  # starts. Each returns `{:ok, value}` or `{:error, {reason, message}}`.

  use Image.ZeroShot.Native.Library

  # Models of the Hub, on a dirty scheduler for as long as a download takes
  def hub_fetch(_name, _revision, _settings, _progress), do: not_loaded()
  def hub_cached(_name, _revision, _settings), do: not_loaded()

  # Pictures to pixels. The answer is a job; the caller gets `{tag, answer}` as a message when the
  # pixels are there, unless it cancels the job first.
  def preprocess(_tag, _source, _preprocessing, _limits, _turn, _show), do: not_loaded()

  def preprocess_cancel(_job), do: not_loaded()
  def pixel_threads, do: not_loaded()
  def check_picture_size(_size, _max_pixels, _max_side), do: not_loaded()
  def check_picture_bytes(_length, _max_bytes), do: not_loaded()

  # Pixels of a square to a JPEG file
  def thumbnail(_pixels, _side), do: not_loaded()

  # Parts of a picture's vector to accounts of scores, and a map over its picture to bytes
  def explain(_parts, _dim, _texts, _background, _scoring), do: not_loaded()
  def draw(_view, _layer, _format), do: not_loaded()

  # Indexes. `index_ask`, `index_search`, `index_save` and `index_load` answer with `{tag, answer}` as a
  # message; only a search can be cancelled.
  def index_new(_storage, _max_size), do: not_loaded()
  def index_info(_index), do: not_loaded()
  def index_ask(_tag, _index, _question), do: not_loaded()
  def index_search(_tag, _index, _query, _options, _owner), do: not_loaded()
  def index_cancel(_job), do: not_loaded()
  def index_save(_tag, _index, _path), do: not_loaded()
  def index_load(_tag, _path, _max_size), do: not_loaded()

  # Unit vectors to numbers
  def rank(_image, _texts, _background, _scoring), do: not_loaded()
  def rank_many(_images, _dim, _texts, _background, _scoring), do: not_loaded()
  def mix(_dim, _prompts, _pictures, _weight), do: not_loaded()
  def calibrate(_images, _dim, _texts, _answers, _logit_scale, _max_ms), do: not_loaded()
  def most_examples(_labels), do: not_loaded()
  def ensemble(_rows, _counts), do: not_loaded()
  def cosine(_a, _b), do: not_loaded()

  # A vector of any length to a unit vector
  def unit(_vector), do: not_loaded()

  # Sets a variable where C code reads it, which `System.put_env/2` does not reach
  def put_default(_name, _value), do: not_loaded()
end
