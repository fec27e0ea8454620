defmodule Image.ZeroShot.Stub.Model do
  @moduledoc false

  # The model of a stub: a serving holds it as any other, with its queue and its limits. But the answers
  # come from the process of the caller, where the test that asks is known.
  #
  # `Image.ZeroShot.Picture` and `Image.ZeroShot.Serving.Client` find `:stub` among the facts about a
  # model and come here.

  @behaviour Image.ZeroShot.Serving.Runner

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.{Client, Lease, Request}
  alias Image.ZeroShot.Stub.{Answer, Owners, Words}

  # Small, so that pictures are decoded and checked but not much more.
  @side 32

  # Patches along a side.
  @grid 4

  @impl true
  def key(opts), do: {:stub, opts.name}

  @impl true
  def open(opts), do: {:ok, :stub, facts(opts)}

  @impl true
  def close(:stub), do: :ok

  @impl true
  def encode(:stub, _tag, _pixels, _prompts),
    do: Error.error(:internal, "a stub answers in the process of the caller")

  @impl true
  def parts(:stub, tag, pixels, prompts), do: encode(:stub, tag, pixels, prompts)

  defp facts(opts) do
    %{
      stub: opts.name,
      name: "stub",
      directory: nil,
      revision: nil,
      commit: nil,
      dim: opts.dim,
      logit_scale: Answer.scale(),
      logit_bias: opts.logit_bias,
      context_length: 77,
      image_size: @side,
      patch_size: div(@side, @grid),
      preprocessing: %{resize: {:shortest_edge, @side}, crop: {@side, @side}, filter: :bicubic},
      device: "cpu",
      requested_device: "cpu",
      device_note: nil,
      precision: "f32",
      format: "stub",
      weights: nil,
      tokenizer: [],
      encoders: nil,
      encoders_note: nil,
      memory: 0,
      max_batch: opts.max_batch || 16,
      concurrency: 1,
      threads: 1
    }
  end

  @doc """
  What goes through the call as the pixels of a picture: its row.
  """
  @spec pixels(Lease.t(), term(), Options.t()) :: {:ok, binary()} | {:error, Error.t()}
  def pixels(%{info: %{stub: name} = info}, given, opts) do
    answer = Owners.fetch!(name, {:picture, given})
    answer = if is_function(answer), do: Answer.check!(answer.(given)), else: answer

    with answer when not is_tuple(answer) <- answer,
         do: {:ok, answer |> Answer.vector(opts, info) |> Words.row(info.dim)}
  end

  @doc """
  What the model would answer. A stub has not looked at the picture, so all patches have the same part in
  what it says, and no rest is left.
  """
  @spec run(Lease.t(), [binary()], [String.t()], Request.kind()) ::
          {:ok, Client.embeddings()} | {:error, Error.t()}
  def run(lease, rows, prompts, :parts), do: run(lease, Enum.map(rows, &even/1), prompts, :embed)
  def run(_lease, rows, [], :embed), do: {:ok, embeddings(rows, [])}

  def run(%{info: %{stub: name, dim: dim}}, rows, prompts, :embed) do
    with answer when not is_tuple(answer) <- Owners.fetch!(name, {:texts, prompts}),
         do:
           {:ok,
            embeddings(rows, Enum.map(prompts, &(&1 |> Words.vector(dim) |> Words.row(dim))))}
  end

  defp even(row) do
    patches = @grid * @grid
    part = for <<x::float-32-native <- row>>, into: <<>>, do: <<x / patches::float-32-native>>
    rest = for <<_::32 <- row>>, into: <<>>, do: <<0.0::float-32-native>>
    rest <> :binary.copy(part, patches)
  end

  defp embeddings(rows, texts) do
    %{
      images: IO.iodata_to_binary(rows),
      texts: IO.iodata_to_binary(texts),
      truncated: [],
      news: false
    }
  end
end
