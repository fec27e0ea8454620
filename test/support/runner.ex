defmodule Image.ZeroShot.Test.Runner do
  @moduledoc false

  # A model that computes nothing: it tells the test what it is asked, and the test answers. So a
  # test decides when a load or a run ends, and sleeps for nothing.

  @behaviour Image.ZeroShot.Serving.Runner

  alias Image.ZeroShot.Serving.Client

  @info %{
    concurrency: 1,
    max_batch: 4,
    name: "stand-in",
    precision: "f32",
    context_length: 77,
    logit_scale: 100.0,
    logit_bias: nil,
    dim: 1,
    preprocessing: %{}
  }

  @doc """
  Options of a call to the model of the calling test. `:info` are other facts about it.
  """
  def opts(more \\ []) do
    Map.merge(
      %{
        runner: __MODULE__,
        id: make_ref(),
        test: self(),
        open: :ask,
        serving: nil,
        timeout: 30_000,
        max_queue: 512,
        max_cached_prompts: 1_000,
        info: Map.merge(@info, Map.new(more[:info] || []))
      },
      more |> Keyword.delete(:info) |> Map.new()
    )
  end

  @doc """
  The same of a model that loads by itself and answers by itself.
  """
  def ready(more \\ []), do: opts([open: :ok, run: :answer] ++ more)

  @doc """
  A call as a user's: pictures and prompts to one-component embeddings. Instead of pictures, a
  function may make them, of the lease.
  """
  def call(opts, pixels, prompts \\ [])

  def call(opts, pixels, prompts) when is_list(pixels),
    do: call(opts, fn _lease -> {:ok, pixels} end, prompts)

  def call(opts, decode, prompts) do
    needs = %{pictures: 1, decoded_here: 0, prompts: [], parts: 1}

    with {:ok, lease} <- Client.checkout(opts, needs) do
      try do
        with {:ok, pixels} <- decode.(lease),
             {:ok, embeddings} <- Client.run(lease, pixels, prompts),
             do: {:ok, {embeddings.images, embeddings.texts, embeddings.truncated}}
      after
        Client.checkin(lease)
      end
    end
  end

  @doc """
  What the stand-in answers: the first byte of a picture and the length of a prompt, as floats.
  """
  def embeddings(pixels, prompts) do
    images = for <<first, _::binary>> <- pixels, into: <<>>, do: <<first / 1::float-32-native>>
    texts = for prompt <- prompts, into: <<>>, do: <<byte_size(prompt) / 1::float-32-native>>
    cut = for {prompt, i} <- Enum.with_index(prompts), prompt =~ "long", do: i
    {images, texts, cut}
  end

  @doc """
  Ends a run, with the embeddings of what was asked.
  """
  def answer({:run, server, tag, pixels, prompts}),
    do: send(server, {tag, {:ok, embeddings(pixels, prompts)}})

  @impl true
  def key(opts), do: opts.id

  @impl true
  def open(%{open: :ok} = opts), do: {:ok, opts, opts.info}

  def open(opts) do
    send(opts.test, {:opening, self()})

    receive do
      {:open, :ok} -> {:ok, opts, opts.info}
      {:open, :raise} -> raise "no such luck"
      {:open, {:error, error}} -> {:error, error}
    end
  end

  @impl true
  def encode(opts, tag, pixels, prompts) do
    run = {:run, self(), tag, pixels, prompts}

    cond do
      refused = opts[:refuse] -> {:error, refused}
      opts[:run] == :answer -> answer(run)
      true -> send(opts.test, run)
    end
    |> case do
      {:error, error} -> {:error, error}
      _sent -> :ok
    end
  end

  @impl true
  # Two rows a picture, as if a rest and one patch summed to its vector.
  def parts(_opts, tag, pixels, prompts) do
    {_images, texts, cut} = embeddings([], prompts)

    images =
      for <<first, _::binary>> <- pixels,
          into: <<>>,
          do: <<1.0::float-32-native, first - 1.0::float-32-native>>

    send(self(), {tag, {:ok, {images, texts, cut}}})
    :ok
  end

  @impl true
  def close(opts) do
    send(opts.test, {:closed, opts.id})
    :ok
  end
end
