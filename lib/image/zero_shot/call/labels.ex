defmodule Image.ZeroShot.Call.Labels do
  @moduledoc false

  # A label set: the caller's labels, checked, with the prompts of each.

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.{Argument, Options, Templates}

  # Of one label. CLIP's own list of templates makes 80.
  @max_prompts 1_000

  @enforce_keys [:terms, :prompts, :counts, :pictures, :shown]
  defstruct [:terms, :prompts, :counts, :pictures, :shown]

  @typedoc """
  `:terms` come back as labels of results. `:prompts` are those of all labels, in order, and `:counts`
  how many each label has. `:pictures` and `:shown` are the same for pictures, each with a name for
  errors.
  """
  @type t :: %__MODULE__{
          terms: [term(), ...],
          prompts: [String.t(), ...],
          counts: [non_neg_integer(), ...],
          pictures: [{String.t(), term()}],
          shown: [non_neg_integer(), ...]
        }

  @type background :: %{term: term(), prompts: [String.t()], counts: [pos_integer()]}

  @no_background %{term: nil, prompts: [], counts: []}

  # The background of each label where labels are independent, unless `:other` gives one or the model
  # needs none.
  @default_background %{term: nil, prompts: ["a photo"], counts: [1]}

  @doc """
  Checks labels without a model, so that a mistake in them is an error before one is loaded.
  """
  @spec new(term(), Options.t()) :: {:ok, t()} | {:error, Error.t()}
  def new(labels, _opts) when labels == %{}, do: none(labels)

  def new(labels, opts) when is_map(labels) and not is_struct(labels),
    do: labels |> Map.to_list() |> new(opts)

  def new([_ | _] = labels, opts) do
    with {:ok, pairs} <- check_each(labels, 0, opts.max_prompts, [], opts),
         do: {:ok, pairs |> Enum.unzip() |> collect()}
  end

  def new([], _opts), do: none([])

  def new(other, opts), do: no_list(other, opts)

  defp none(labels),
    do: Error.error(:invalid_label, "expected at least one label, got: #{inspect(labels)}")

  @doc """
  Texts to embed, each with the prompts that the templates make of it.
  """
  @spec texts([term(), ...], Options.t()) :: {:ok, t()} | {:error, Error.t()}
  def texts(texts, opts) do
    with {:ok, pairs} <- check_each(texts, 0, opts.max_prompts, [], Map.put(opts, :noun, "text")),
         do: {:ok, pairs |> Enum.unzip() |> collect()}
  end

  # What a label has are strings and pictures.
  defp collect({terms, all}) do
    split = Enum.map(all, fn prompts -> Enum.split_with(prompts, &is_binary/1) end)

    pictures =
      for {{_prompts, pictures}, i} <- Enum.with_index(split),
          {{:picture, picture}, n} <- Enum.with_index(pictures, 1),
          do: {"label at index #{i}, picture #{n}", picture}

    %__MODULE__{
      terms: terms,
      prompts: Enum.flat_map(split, &elem(&1, 0)),
      counts: Enum.map(split, &length(elem(&1, 0))),
      pictures: pictures,
      shown: Enum.map(split, &length(elem(&1, 1)))
    }
  end

  @doc """
  Splits labels into parts of about `most` prompts and pictures, with at least one label each.
  """
  @spec parts(t(), pos_integer()) :: [t(), ...]
  def parts(%__MODULE__{} = labels, most) do
    [labels.terms, labels.counts, labels.shown]
    |> Enum.zip()
    |> Enum.chunk_while(
      {[], 0},
      fn {_term, count, shown} = label, {part, size} ->
        if part != [] and size + count + shown > most,
          do: {:cont, Enum.reverse(part), {[label], count + shown}},
          else: {:cont, {[label | part], size + count + shown}}
      end,
      fn {part, _size} -> {:cont, Enum.reverse(part), nil} end
    )
    |> Enum.map_reduce({labels.prompts, labels.pictures}, &take/2)
    |> elem(0)
  end

  defp take(part, {prompts, pictures}) do
    [terms, counts, shown] = part |> Enum.map(&Tuple.to_list/1) |> Enum.zip_with(& &1)
    {own, prompts} = Enum.split(prompts, Enum.sum(counts))
    {seen, pictures} = Enum.split(pictures, Enum.sum(shown))
    part = %__MODULE__{terms: terms, prompts: own, counts: counts, pictures: seen, shown: shown}
    {part, {prompts, pictures}}
  end

  @doc """
  Returns the background of labels with these terms: its term, its prompts, and how many of them make each
  row.
  """
  @spec background([term()] | tuple(), Options.t()) :: {:ok, background()} | {:error, Error.t()}
  def background(_terms, %{other: nil, multi_label: true}), do: {:ok, @default_background}
  def background(_terms, %{other: nil}), do: {:ok, @no_background}

  def background(terms, %{other: other} = opts) do
    case background_pair(other, opts) do
      {:ok, {term, prompts}} ->
        cond do
          not Enum.all?(prompts, &is_binary/1) ->
            Error.error(:invalid_label, "the background given as :other has pictures")

          # With multi_label: true it has no result of its own.
          index = not opts.multi_label && place(terms, term) ->
            two_of_a_name(index, term)

          true ->
            {:ok, %{term: term, prompts: prompts, counts: background_counts(other, prompts)}}
        end

      {:error, fault} ->
        Error.error(:invalid_label, "the background given as :other #{fault}")
    end
  end

  defp place(terms, term) when is_tuple(terms), do: terms |> Tuple.to_list() |> place(term)
  defp place(terms, term), do: Enum.find_index(terms, &(&1 === term))

  # The two results could not be told apart.
  defp two_of_a_name(index, term) do
    Error.error(
      :invalid_label,
      "label at index #{index} and :other have the same name, #{Argument.shown(term)}; leave out one " <>
        "of them, or give :other a name of its own, as {name, prompts}"
    )
  end

  @doc """
  Returns the part of a background that a model needs. A model that scores each label by itself does not
  need the default one.
  """
  @spec background_for(background(), %{logit_bias: float() | nil}, Options.t()) :: background()
  def background_for(_default, %{logit_bias: bias}, %{other: nil}) when bias != nil,
    do: @no_background

  def background_for(background, _info, _opts), do: background

  defp background_pair(prompts, opts) when is_list(prompts), do: pair({nil, prompts}, opts)
  defp background_pair(other, opts), do: pair(other, opts)

  # Templates make one row of a label, as of any other. A list of prompts names several things, each
  # with its own row.
  defp background_counts(other, prompts) when is_binary(other), do: [length(prompts)]
  defp background_counts(_other, prompts), do: Enum.map(prompts, fn _ -> 1 end)

  defp check_each([], _index, _left, pairs, _opts), do: {:ok, Enum.reverse(pairs)}

  defp check_each(_labels, index, _left, _pairs, %{max_labels: index} = opts) do
    Error.error(:invalid_label, "more #{noun(opts)}s than :max_labels, which is #{index}")
  end

  defp check_each([label | labels], index, left, pairs, opts) do
    case pair(label, opts) do
      {:ok, {_term, prompts} = pair} when length(prompts) <= left ->
        check_each(labels, index + 1, left - length(prompts), [pair | pairs], opts)

      {:ok, _one_too_many} ->
        too_many_prompts(index, opts)

      {:error, fault} ->
        Error.error(:invalid_label, "#{noun(opts)} at index #{index} #{fault}")
    end
  end

  defp check_each(tail, _index, _left, _pairs, opts), do: no_list(tail, opts)

  defp too_many_prompts(index, %{max_prompts: most} = opts) do
    Error.error(
      :invalid_label,
      "labels up to index #{index} have more prompts than :max_prompts, which is #{most}" <>
        case length(opts.template) do
          1 -> ""
          count -> "; each of the #{count} templates makes a prompt of every label"
        end
    )
  end

  defp noun(opts), do: Map.get(opts, :noun, "label")

  # Templates come from the operator, so their length has no limit.
  defp pair(label, opts) when is_binary(label) do
    with :ok <- check_text(label, opts.max_label_bytes),
         do: {:ok, {label, Templates.prompts(opts.template, label)}}
  end

  defp pair(other, %{noun: _}), do: {:error, "is not a string: #{Argument.shown(other)}"}
  defp pair({term, prompt}, opts) when is_binary(prompt), do: pair({term, [prompt]}, opts)
  defp pair({term, {:picture, _} = picture}, opts), do: pair({term, [picture]}, opts)

  defp pair({term, prompts}, opts) when is_list(prompts) do
    with :ok <- check_prompts(prompts, opts.max_label_bytes), do: {:ok, {term, prompts}}
  end

  defp pair(other, _opts),
    do: {:error, "is not a string or {label, prompts}: #{Argument.shown(other)}"}

  defp check_prompts([], _max), do: {:error, "has no prompts"}

  defp check_prompts(prompts, max) do
    cond do
      List.improper?(prompts) ->
        {:error, "has prompts that are not a list: #{Argument.shown(prompts)}"}

      length(prompts) > @max_prompts ->
        {:error, "has more than #{@max_prompts} prompts"}

      true ->
        Enum.find_value(prompts, :ok, &fault(&1, max))
    end
  end

  defp fault({:picture, _picture}, _max), do: nil

  defp fault(prompt, max) do
    with :ok <- check_text(prompt, max), do: nil
  end

  defp check_text(text, _max) when not is_binary(text),
    do: {:error, "is not a string: #{Argument.shown(text)}"}

  defp check_text(text, max) when byte_size(text) > max,
    do: {:error, "has #{byte_size(text)} bytes, more than :max_label_bytes, which is #{max}"}

  defp check_text(text, _max) do
    if String.valid?(text), do: :ok, else: {:error, "is not valid UTF-8: #{Argument.shown(text)}"}
  end

  defp no_list(term, opts) do
    Error.error(:invalid_label, "expected #{accepted(opts)}, got: #{Argument.shown(term)}")
  end

  defp accepted(%{noun: noun}), do: "a list of #{noun}s"

  defp accepted(_labels),
    do: "labels as a list, a map of label => prompts or an Image.ZeroShot.Classifier"
end
